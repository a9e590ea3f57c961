//! An HTTP server that sends what it is told, byte by byte: no library would send some of it.

use std::collections::HashMap;
use std::io::{Read, Result, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

/// What is done with a connection whose request was read.
pub type Answer = Arc<dyn Fn(&mut TcpStream, &Request) -> Result<()> + Send + Sync>;

/// A request.
pub struct Request {
    /// All of the head, as it came.
    pub head: String,
}

/// Answers for each path in turn, the last one repeated; `*` stands for every other path.
pub type Scripts = HashMap<String, Vec<Answer>>;

/// A running server; it ends when it is dropped.
pub struct Hostile {
    pub port: u16,
    shared: Arc<Shared>,
}

struct Shared {
    scripts: Scripts,
    seen: Mutex<HashMap<String, Vec<String>>>,
    ended: AtomicBool,
}

impl Hostile {
    pub fn start(scripts: Scripts) -> Hostile {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let shared = Arc::new(Shared {
            scripts,
            seen: Mutex::default(),
            ended: AtomicBool::new(false),
        });
        let serving = shared.clone();
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                if serving.ended.load(Ordering::Acquire) {
                    break;
                }
                let serving = serving.clone();
                // A client that closes early is what some answers are for.
                std::thread::spawn(move || stream.map(|stream| serving.serve(stream)));
            }
        });
        Hostile { port, shared }
    }

    /// Heads of the requests for `path`, in order.
    pub fn seen(&self, path: &str) -> Vec<String> {
        self.shared.lock().get(path).cloned().unwrap_or_default()
    }

    /// Heads of all requests.
    pub fn all(&self) -> Vec<String> {
        self.shared.lock().values().flatten().cloned().collect()
    }
}

impl Drop for Hostile {
    fn drop(&mut self) {
        self.shared.ended.store(true, Ordering::Release);
        // Wakes who accepts.
        drop(TcpStream::connect(("127.0.0.1", self.port)));
    }
}

impl Shared {
    fn lock(&self) -> std::sync::MutexGuard<'_, HashMap<String, Vec<String>>> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn serve(&self, mut stream: TcpStream) -> Result<()> {
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            let mut byte = [0];
            stream.read_exact(&mut byte)?;
            head.extend(byte);
            // Somebody speaks TLS, and would wait for an answer.
            if head == [0x16] {
                return Ok(());
            }
        }
        let head = String::from_utf8_lossy(&head).into_owned();
        let target = head.split(' ').nth(1).unwrap_or_default();
        let path = target.split('?').next().unwrap_or_default();
        let path = path.trim_start_matches('/').to_owned();
        let turn = {
            let mut seen = self.lock();
            let seen = seen.entry(path.clone()).or_default();
            seen.push(head.clone());
            seen.len() - 1
        };
        let script = self.scripts.get(&path).or(self.scripts.get("*"));
        let Some(script) = script else {
            return stream.write_all(b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n");
        };
        let answer = &script[turn.min(script.len() - 1)];
        answer(&mut stream, &Request { head })
    }
}

/// These bytes, then the connection's end.
pub fn raw(bytes: impl Into<Vec<u8>>) -> Answer {
    let bytes = bytes.into();
    Arc::new(move |stream, _| stream.write_all(&bytes))
}

/// A whole answer with this status line, these header lines and this body.
pub fn answer(status: &str, headers: &str, body: &[u8]) -> Vec<u8> {
    let length = body.len();
    let head = format!(
        "HTTP/1.1 {status}\r\n{headers}Content-Length: {length}\r\nConnection: close\r\n\r\n"
    );
    [head.as_bytes(), body].concat()
}

/// 200 with this body.
pub fn ok(body: impl AsRef<[u8]>) -> Answer {
    raw(answer("200 OK", "", body.as_ref()))
}

/// These bytes, then these again and again until the client has enough.
pub fn endless(head: &str, part: Vec<u8>) -> Answer {
    let head = head.to_owned();
    Arc::new(move |stream, _| {
        stream.write_all(head.as_bytes())?;
        loop {
            stream.write_all(&part)?;
        }
    })
}

/// The head of a gzip file, then one block with as many bytes as `times` x 258, all of them `byte`.
pub fn gzip_bomb(byte: u8, times: usize) -> Vec<u8> {
    let mut bits = Bits::default();
    bits.add(0b1, 1); // The last block,
    bits.add(0b01, 2); // with the fixed codes.
    bits.code(0x30 + u32::from(byte), 8);
    for _ in 0..times {
        bits.code(0b1100_0101, 8); // 258 bytes,
        bits.code(0, 5); // the same as the one before.
    }
    bits.code(0, 7);
    let mut file = vec![0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 255];
    file.extend(bits.bytes);
    file
}

/// Bits as deflate packs them: into each byte from its lowest, codes from their highest.
#[derive(Default)]
struct Bits {
    bytes: Vec<u8>,
    used: u32,
}

impl Bits {
    fn add(&mut self, bits: u32, count: u32) {
        for at in 0..count {
            if self.used == 0 {
                self.bytes.push(0);
            }
            let last = self.bytes.last_mut().unwrap();
            *last |= ((bits >> at & 1) as u8) << self.used;
            self.used = (self.used + 1) % 8;
        }
    }

    fn code(&mut self, bits: u32, count: u32) {
        for at in (0..count).rev() {
            self.add(bits >> at, 1);
        }
    }
}
