//! Every kind of fault, by the name under which it is counted.

macro_rules! faults {
    (scheduled { $($(#[$when:meta])* $scheduled:ident,)* } single { $($(#[$how:meta])* $single:ident,)* }) => {
        /// What can go wrong.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
        pub enum Fault {
            $($(#[$when])* $scheduled,)*
            $($(#[$how])* $single,)*
        }

        impl Fault {
            /// Those that come at a time of their own.
            pub(crate) const SCHEDULED: &[Self] = &[$(Self::$scheduled),*];
            /// Every kind.
            pub const ALL: &[Self] = &[$(Self::$scheduled,)* $(Self::$single),*];
        }
    };
}

faults! {
    scheduled {
        /// The leader's process dies; its port refuses from then on.
        LeaderCrash,
        /// Another coordinator's process dies.
        FollowerCrash,
        /// A process dies at a given step of a job's road (reliability B.3).
        ArmedCrash,
        /// A coordinator's machine is gone: nothing refuses, nothing answers.
        CoordinatorHostLoss,
        /// A coordinator stands still for less than its lease.
        ShortPause,
        /// A coordinator stands still past its lease, and goes on.
        LongPause,
        /// A coordinator is asked to stop.
        Resign,
        /// A leader lives on behind a listener that died: it is called absent, and is not.
        DeadListener,
        /// A prober calls a healthy leader absent.
        FalseAbsence,
        /// A worker's agent dies; its containers run on.
        AgentCrash,
        /// A worker's agent stands still.
        AgentPause,
        /// A worker's machine dies and is back soon, under another boot.
        HostReboot,
        /// A worker's machine is away for longer than its jobs are waited for.
        HostLoss,
        /// An engine answers nothing.
        EngineDown,
        /// An engine takes seconds for everything.
        EngineSlow,
        /// An engine has lost its containers, though its machine was not booted anew.
        EngineForgets,
        /// The store has no quorum for long.
        QuorumLoss,
        /// A member fails: the store is away shortly, and every lease begins anew.
        MemberFault,
        /// The store takes no puts; keepalives and removals work.
        NoSpace,
        /// The store takes seconds to answer.
        SlowStore,
        /// A coordinator and the store do not reach each other.
        CutStore,
        /// What a coordinator says does not reach the store.
        CutToStore,
        /// What the store says does not reach a coordinator.
        CutFromStore,
        /// A coordinator and workers do not reach each other.
        CutWorkers,
        /// What workers say does not reach a coordinator.
        CutFromWorkers,
        /// What a coordinator says does not reach workers.
        CutToWorkers,
        /// A coordinator and Core do not reach each other.
        CutCore,
        /// Two coordinators do not reach each other.
        CutCoordinators,
        /// Core answers nothing.
        CoreOutage,
        /// A machine's clock changes its rate.
        ClockDrift,
        /// The store says that it is nearly full.
        StoreNearlyFull,
        /// An operator takes a node out of the choice.
        Cordon,
        /// An operator empties a node.
        Drain,
    }
    // What happens to single messages and calls, or follows from a plan.
    single {
        /// A single call to an engine gets no answer; nothing was done.
        EngineNoAnswer,
        /// A single call to an engine gets no answer, but was done.
        EngineDoneUnanswered,
        /// An engine cannot prepare or start a rank.
        EngineRefuses,
        /// An image that no node can pull.
        BadImage,
        /// The kernel kills a rank for memory.
        OutOfMemory,
        /// A put that was applied and answered with "no space".
        NoSpaceApplied,
        /// A request to the store is lost.
        StoreRequestLost,
        /// An answer of the store is lost.
        StoreReplyLost,
        /// A reading of the leader key shows an old value.
        StaleLook,
        /// Watches say nothing.
        NoWatch,
        /// Watches speak late, twice or out of order.
        LateWatch,
        /// A message is lost.
        Loss,
        /// A message comes twice.
        Duplicate,
        /// A message takes longer than every lease.
        Delay,
        /// A worker speaks of a rank that was never its own.
        AlienRank,
        /// A worker's stream breaks.
        StreamBreak,
        /// An answer of Core is lost.
        CoreAnswerLost,
        /// Core denies a job for a while that it knows.
        CoreDenies,
        /// A wallet is empty.
        NoFunds,
        /// Core refuses a single item for a reason of its own.
        CoreRejects,
        /// Core has given a create up, and knows nothing of the job that was made (F3).
        Orphan,
        /// Core asks again for a job that it has.
        RepeatedCreate,
        /// A leader gives up because most workers fell silent.
        Yield,
    }
}

impl Fault {
    /// Its name in words.
    #[must_use]
    pub fn name(self) -> String {
        let mut name = String::new();
        for letter in format!("{self:?}").chars() {
            if letter.is_uppercase() && !name.is_empty() {
                name.push(' ');
            }
            name.extend(letter.to_lowercase());
        }
        name
    }
}

/// Where a process may be made to die: the rows of reliability B.3.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum CrashPoint {
    /// Create received, transaction not sent.
    CreateReceived,
    /// Transaction sent, reply unknown.
    CreateSent,
    /// Committed, 200 not sent.
    CreateCommitted,
    /// Placement committed, nothing sent.
    Placed,
    /// Start sent.
    StartSent,
    /// Container created, not started; the agent dies.
    ContainerCreated,
    /// Started, report lost with the agent.
    ContainerStarted,
    /// Running committed, update unsent.
    RunningCommitted,
    /// Update sent, its answer lost.
    UpdateSent,
    /// A window has ended and is not sealed.
    WindowEnded,
    /// Sealed, charge unsent.
    Sealed,
    /// Charge sent, its answer lost.
    ChargeSent,
    /// Charge recorded, its answer not committed.
    ChargeAnswered,
    /// Stop asked for, or exit seen, not committed.
    EndSeen,
    /// Terminal committed, last charge and update unsent.
    Ended,
}

impl CrashPoint {
    /// Every row.
    pub const ALL: [Self; 15] = [
        Self::CreateReceived,
        Self::CreateSent,
        Self::CreateCommitted,
        Self::Placed,
        Self::StartSent,
        Self::ContainerCreated,
        Self::ContainerStarted,
        Self::RunningCommitted,
        Self::UpdateSent,
        Self::WindowEnded,
        Self::Sealed,
        Self::ChargeSent,
        Self::ChargeAnswered,
        Self::EndSeen,
        Self::Ended,
    ];
}
