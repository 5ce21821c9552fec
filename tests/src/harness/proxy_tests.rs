use super::*;

/// Long enough for bytes on loopback to have arrived if nothing held them.
const LONG: Duration = Duration::from_millis(200);

struct Setup {
    proxy: FaultProxy,
    listener: TcpListener,
}

async fn setup() -> Setup {
    let listener = TcpListener::bind(("127.0.0.1", free_port())).await.unwrap();
    let proxy = FaultProxy::start(listener.local_addr().unwrap()).await.unwrap();
    Setup { proxy, listener }
}

impl Setup {
    async fn connect(&self) -> TcpStream {
        TcpStream::connect(self.proxy.address()).await.unwrap()
    }

    /// Both ends of a connection.
    async fn pair(&self) -> (TcpStream, TcpStream) {
        let (client, server) = tokio::join!(self.connect(), self.listener.accept());
        (client, server.unwrap().0)
    }
}

async fn expect(stream: &mut TcpStream, text: &str) {
    let mut bytes = vec![0; text.len()];
    tokio::time::timeout(Duration::from_secs(10), stream.read_exact(&mut bytes)).await.expect("bytes arrive").unwrap();
    assert_eq!(String::from_utf8(bytes).unwrap(), text);
}

async fn expect_end(stream: &mut TcpStream) {
    let end = tokio::time::timeout(Duration::from_secs(10), stream.read(&mut [0])).await.expect("the end arrives");
    assert!(!matches!(end, Ok(1)), "a byte instead of the end");
}

async fn expect_silence(stream: &mut TcpStream) {
    let read = tokio::time::timeout(LONG, stream.read(&mut [0])).await;
    assert!(read.is_err(), "{read:?} instead of silence");
}

#[tokio::test]
async fn bytes_and_ends_pass_both_ways_while_nothing_is_wrong() {
    let setup = setup().await;
    let (mut client, mut server) = setup.pair().await;
    client.write_all(b"question").await.unwrap();
    client.shutdown().await.unwrap();
    expect(&mut server, "question").await;
    expect_end(&mut server).await;
    server.write_all(b"answer").await.unwrap();
    expect(&mut client, "answer").await;
    drop(server);
    expect_end(&mut client).await;
}

#[tokio::test]
async fn a_cut_ends_all_connections_and_new_ones_until_it_heals() {
    let setup = setup().await;
    let (mut client, mut server) = setup.pair().await;
    setup.proxy.cut();
    expect_end(&mut client).await;
    expect_end(&mut server).await;
    let mut refused = setup.connect().await;
    expect_end(&mut refused).await;
    setup.proxy.heal();
    let (mut client, mut server) = setup.pair().await;
    client.write_all(b"back").await.unwrap();
    expect(&mut server, "back").await;
}

#[tokio::test]
async fn a_cut_that_heals_at_once_has_still_ended_connections() {
    let setup = setup().await;
    let (mut client, _server) = setup.pair().await;
    setup.proxy.cut();
    setup.proxy.heal();
    expect_end(&mut client).await;
}

#[tokio::test]
async fn a_black_hole_to_the_target_holds_bytes_and_ends_and_lets_the_other_way_through() {
    let setup = setup().await;
    let (mut client, mut server) = setup.pair().await;
    setup.proxy.blackhole(Direction::ToTarget);
    client.write_all(b"held").await.unwrap();
    expect_silence(&mut server).await;
    server.write_all(b"through").await.unwrap();
    expect(&mut client, "through").await;
    drop(client);
    // The answer of the client's kernel to these bytes is lost too.
    server.write_all(b"to nobody").await.unwrap();
    expect_silence(&mut server).await;
    setup.proxy.heal();
    expect(&mut server, "held").await;
    expect_end(&mut server).await;
}

#[tokio::test]
async fn a_black_hole_from_the_target_holds_only_answers() {
    let setup = setup().await;
    let (mut client, mut server) = setup.pair().await;
    setup.proxy.blackhole(Direction::FromTarget);
    client.write_all(b"question").await.unwrap();
    expect(&mut server, "question").await;
    server.write_all(b"answer").await.unwrap();
    expect_silence(&mut client).await;
    setup.proxy.blackhole(Direction::Both);
    client.write_all(b" again").await.unwrap();
    expect_silence(&mut server).await;
    setup.proxy.heal();
    expect(&mut client, "answer").await;
    expect(&mut server, " again").await;
}

#[tokio::test]
async fn a_connection_made_in_a_black_hole_reaches_the_target_when_it_heals() {
    let setup = setup().await;
    setup.proxy.blackhole(Direction::FromTarget);
    let mut client = setup.connect().await;
    client.write_all(b"hello").await.unwrap();
    assert!(tokio::time::timeout(LONG, setup.listener.accept()).await.is_err(), "half a network opens no connection");
    setup.proxy.heal();
    let (mut server, _) = setup.listener.accept().await.unwrap();
    expect(&mut server, "hello").await;
}

#[tokio::test]
async fn a_delay_counts_each_way_and_not_each_piece() {
    let setup = setup().await;
    let (mut client, mut server) = setup.pair().await;
    setup.proxy.delay_ms(100);
    let begin = Instant::now();
    for _ in 0..20 {
        client.write_all(b"x").await.unwrap();
        // Pieces of their own, were they not merged.
        tokio::task::yield_now().await;
    }
    expect(&mut server, &"x".repeat(20)).await;
    server.write_all(b"y").await.unwrap();
    expect(&mut client, "y").await;
    let took = begin.elapsed();
    assert!(took >= Duration::from_millis(200) && took < Duration::from_secs(2), "{took:?}");
}

#[tokio::test]
async fn a_dropped_proxy_closes_its_connections() {
    let setup = setup().await;
    let (mut client, mut server) = setup.pair().await;
    drop(setup.proxy);
    expect_end(&mut client).await;
    expect_end(&mut server).await;
}
