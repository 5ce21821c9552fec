use super::super::client::Access;
use super::*;
use crate::config::EtcdConfig;
use crate::testing::etcd;
use muster_domain::id::ClusterName;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

/// A way to `target` on which about 8 MB come back in a second; its address.
async fn slow_way(target: String) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((near, _)) = listener.accept().await {
            let far = TcpStream::connect(&target).await.unwrap();
            let ((mut near_reads, mut near_writes), (mut far_reads, mut far_writes)) =
                (near.into_split(), far.into_split());
            tokio::spawn(async move { tokio::io::copy(&mut near_reads, &mut far_writes).await });
            tokio::spawn(async move {
                let mut piece = vec![0; 64 << 10];
                while let Ok(count @ 1..) = far_reads.read(&mut piece).await {
                    tokio::time::sleep(Duration::from_millis(8)).await;
                    if near_writes.write_all(&piece[..count]).await.is_err() {
                        break;
                    }
                }
            });
        }
    });
    format!("http://{address}")
}

#[tokio::test]
async fn documents_that_do_not_come_in_time_together_come_in_smaller_pages() {
    let Some(server) = etcd::Etcd::start("large pages", None).await else { return };
    let mut admin = server.client(None).await.unwrap();
    for number in 0..40 {
        admin.put(format!("/muster/north/other/{number:02}"), vec![b'x'; 512 << 10], None).await.unwrap();
    }
    let slow = slow_way(server.endpoint.trim_start_matches("http://").to_owned()).await;
    let etcd = Etcd::new(Access::read(&EtcdConfig { endpoints: vec![slow], ..server.config() }).unwrap());
    let keys = Keys::new("/muster", &ClusterName::new("north").unwrap());
    let mut cache = Cache::default();
    cache.relist(&etcd, &keys).await.unwrap();
    assert_eq!(cache.rows.len(), 40);
}
