//! Against a server that can be told to misbehave. It speaks plain HTTP, which only tests
//! may allow.

use std::io::{BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::mpsc::{Receiver, channel};

use super::*;
use crate::source::https::{HttpsError, fetch};

/// What the server does with a request.
#[derive(Clone, Debug)]
enum Behaviour {
    /// Serves the file, ranges too, under this tag.
    Serve(&'static str),
    /// Closes the connection after so many bytes of the body.
    CutAfter(usize),
    /// Goes silent after so many bytes of the body.
    StallAfter(usize),
    /// Answers a status and nothing else.
    Status(u16),
    /// Claims to send another part than was asked for.
    WrongRange,
    /// Leads elsewhere.
    Redirect(String),
}

struct Server {
    url: String,
    /// The `Range` and `If-Range` of each request.
    requests: Receiver<(Option<String>, Option<String>)>,
}

/// Serves `bytes`, one behaviour for each connection.
fn serve(bytes: &[u8], behaviours: &[Behaviour]) -> Server {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}/x.gguf", listener.local_addr().unwrap());
    let (sender, requests) = channel();
    let (bytes, behaviours) = (bytes.to_vec(), behaviours.to_vec());
    std::thread::spawn(move || {
        for behaviour in behaviours {
            let (stream, _) = listener.accept().unwrap();
            let headers = read_head(&stream);
            let header = |name: &str| headers.iter().find_map(|line| line.strip_prefix(name));
            let owned = |value: Option<&str>| value.map(str::to_owned);
            let (range, if_range) = (owned(header("range: ")), owned(header("if-range: ")));
            let _ = sender.send((range.clone(), if_range.clone()));
            let bytes = bytes.clone();
            // A silent answer must not hold up the next one.
            std::thread::spawn(move || {
                // A client that hangs up early is what some tests want.
                let _ = answer(&stream, &bytes, &behaviour, range, if_range.as_deref());
            });
        }
    });
    Server { url, requests }
}

fn read_head(stream: &TcpStream) -> Vec<String> {
    let lines = BufReader::new(stream).lines();
    let lines = lines
        .map(|line| line.unwrap())
        .take_while(|line| !line.is_empty());
    lines
        .map(|line| match line.split_once(':') {
            Some((name, value)) => format!("{}:{value}", name.to_lowercase()),
            None => line,
        })
        .collect()
}

fn answer(
    mut stream: &TcpStream,
    bytes: &[u8],
    behaviour: &Behaviour,
    range: Option<String>,
    if_range: Option<&str>,
) -> std::io::Result<()> {
    let total = bytes.len();
    match behaviour {
        Behaviour::Serve(tag) => {
            let start = range
                .filter(|_| if_range == Some(*tag))
                .and_then(|range| {
                    range
                        .strip_prefix("bytes=")?
                        .strip_suffix('-')?
                        .parse()
                        .ok()
                })
                .unwrap_or(0_usize);
            let last = total - 1;
            let head = if start > 0 {
                format!("206 Partial Content\r\nContent-Range: bytes {start}-{last}/{total}")
            } else {
                "200 OK".to_owned()
            };
            let length = total - start;
            write!(
                stream,
                "HTTP/1.1 {head}\r\nETag: {tag}\r\nContent-Length: {length}\r\n\
                 Connection: close\r\n\r\n"
            )?;
            stream.write_all(&bytes[start..])
        }
        Behaviour::CutAfter(length) | Behaviour::StallAfter(length) => {
            write!(
                stream,
                "HTTP/1.1 200 OK\r\nETag: \"v1\"\r\nContent-Length: {total}\r\n\r\n"
            )?;
            stream.write_all(&bytes[..*length])?;
            if matches!(behaviour, Behaviour::StallAfter(_)) {
                std::thread::sleep(Duration::from_secs(3));
            }
            Ok(())
        }
        Behaviour::Status(status) => write!(
            stream,
            "HTTP/1.1 {status} X\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
        ),
        Behaviour::WrongRange => write!(
            stream,
            "HTTP/1.1 206 Partial Content\r\nContent-Range: bytes 0-9/{total}\r\n\
             Content-Length: 10\r\nConnection: close\r\n\r\n0123456789"
        ),
        Behaviour::Redirect(to) => write!(
            stream,
            "HTTP/1.1 302 Found\r\nLocation: {to}\r\nContent-Length: 0\r\n\
             Connection: close\r\n\r\n"
        ),
    }
}

fn get(bench: &mut Bench, url: &str) -> Result<(), FetchError> {
    let mut installing = bench.install("web");
    fetch(url, &mut installing, &bench.fetcher, &mut bench.told)?;
    installing.finish()?;
    Ok(())
}

#[test]
fn a_whole_file_comes_in_one_go() {
    let mut bench = Bench::new();
    let target = serve(&bench.bytes, &[Behaviour::Serve("\"v1\"")]);
    let server = serve(&[], &[Behaviour::Redirect(target.url)]);
    get(&mut bench, &server.url).unwrap();
    bench.assert_installed();
    let size = bench.bytes.len() as u64;
    assert_eq!(bench.told.progress.last(), Some(&(size, Some(size))));
    assert_eq!(server.requests.recv().unwrap(), (None, None));
}

#[test]
fn a_cut_download_goes_on_where_it_was() {
    let mut bench = Bench::new();
    let behaviours = [Behaviour::CutAfter(300_000), Behaviour::Serve("\"v1\"")];
    let server = serve(&bench.bytes, &behaviours);
    let cut = get(&mut bench, &server.url).unwrap_err();
    assert!(
        matches!(
            cut,
            FetchError::Https(HttpsError::Cut {
                received: 300_000,
                ..
            })
        ),
        "{cut:?}"
    );
    assert!(cut.hint().unwrap().contains("same command again"));
    assert_eq!(bench.store.list().unwrap(), []);
    assert_eq!(bench.leftovers(), 2);
    get(&mut bench, &server.url).unwrap();
    bench.assert_installed();
    server.requests.recv().unwrap();
    let resumed = (Some("bytes=300000-".to_owned()), Some("\"v1\"".to_owned()));
    assert_eq!(server.requests.recv().unwrap(), resumed);
}

#[test]
fn a_cut_download_is_tried_again_at_once() {
    let mut bench = Bench::new();
    bench.fetcher.attempts = 3;
    let behaviours = [
        Behaviour::CutAfter(100_000),
        Behaviour::Status(503),
        Behaviour::StallAfter(200_000),
        Behaviour::Serve("\"v1\""),
    ];
    let server = serve(&bench.bytes, &behaviours);
    get(&mut bench, &server.url).unwrap();
    assert_eq!(bench.told.retries.len(), 3);
    bench.assert_installed();
}

#[test]
fn another_version_of_the_file_starts_afresh() {
    let mut bench = Bench::new();
    let behaviours = [Behaviour::CutAfter(1000), Behaviour::Serve("\"v2\"")];
    let server = serve(&bench.bytes, &behaviours);
    get(&mut bench, &server.url).unwrap_err();
    get(&mut bench, &server.url).unwrap();
    bench.assert_installed();
}

#[test]
fn a_silent_server_is_given_up() {
    let mut bench = Bench::new();
    let server = serve(&bench.bytes, &[Behaviour::StallAfter(1000)]);
    let started = std::time::Instant::now();
    let stalled = get(&mut bench, &server.url).unwrap_err();
    assert!(started.elapsed() < Duration::from_secs(2));
    assert!(
        matches!(
            stalled,
            FetchError::Https(HttpsError::Cut { received: 1000, .. })
        ),
        "{stalled:?}"
    );
}

#[test]
fn refusals_and_nonsense_leave_nothing() {
    let mut bench = Bench::new();
    let server = serve(&bench.bytes, &[Behaviour::Status(404)]);
    let missing = get(&mut bench, &server.url).unwrap_err();
    assert!(
        matches!(
            missing,
            FetchError::Https(HttpsError::Status { status: 404, .. })
        ),
        "{missing:?}"
    );
    assert!(missing.to_string().contains("404 (Not Found)"), "{missing}");
    assert_eq!(bench.leftovers(), 0);

    let mut corrupt = bench.bytes.clone();
    *corrupt.last_mut().unwrap() ^= 1;
    let server = serve(&corrupt, &[Behaviour::Serve("\"v1\"")]);
    let wrong = get(&mut bench, &server.url).unwrap_err();
    assert!(matches!(
        wrong,
        FetchError::Store(StoreError::Digest { .. })
    ));
    assert_eq!(bench.leftovers(), 0);

    let server = serve(&corrupt[1..], &[Behaviour::Serve("\"v1\"")]);
    let short = get(&mut bench, &server.url).unwrap_err();
    assert!(matches!(short, FetchError::Store(StoreError::Size { .. })));
    assert_eq!(bench.leftovers(), 0);

    let behaviours = [Behaviour::CutAfter(1000), Behaviour::WrongRange];
    let server = serve(&bench.bytes, &behaviours);
    get(&mut bench, &server.url).unwrap_err();
    let nonsense = get(&mut bench, &server.url).unwrap_err();
    assert!(matches!(
        nonsense,
        FetchError::Https(HttpsError::Protocol { .. })
    ));
    assert_eq!(bench.leftovers(), 0);
    assert_eq!(bench.store.list().unwrap(), []);
}

#[test]
fn nobody_there_is_said_plainly() {
    let mut bench = Bench::new();
    let address = TcpListener::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap();
    let error = get(&mut bench, &format!("http://{address}/x")).unwrap_err();
    assert!(
        matches!(error, FetchError::Https(HttpsError::Unreachable { .. })),
        "{error:?}"
    );
    assert!(error.to_string().contains(&address.to_string()), "{error}");
    assert!(error.hint().unwrap().contains("hob models import"));
}

#[test]
fn without_tls_nothing_is_fetched() {
    let mut bench = Bench::new();
    bench.fetcher.https_only = true;
    let server = serve(&bench.bytes, &[Behaviour::Serve("\"v1\"")]);
    let error = get(&mut bench, &server.url).unwrap_err();
    assert!(error.to_string().contains("without TLS"), "{error}");
    assert!(server.requests.try_recv().is_err());
}
