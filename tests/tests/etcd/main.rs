//! The store and the election over a real etcd. `ETCD=3.6` and `MUSTER_TEST_ETCD` choose which; without one, every test
//! says that it did not run.

mod election;
mod faults;
mod housekeeping;
mod refusals;
mod stage;
mod store;
