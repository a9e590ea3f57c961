//! A proxy in front of one broker's listener, which can withhold what passes.
//!
//! Requests and answers of Kafka are frames: four bytes of length, then, of a request, api key, version
//! and correlation id, of an answer the correlation id. So the proxy knows what every answer is for.

use std::collections::HashMap;
use std::io::{Read, Result, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::{Arc, Condvar, Mutex, MutexGuard};
use std::thread;
use std::time::Duration;

/// Kinds of requests, by their api key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Api {
    Produce = 0,
    EndTxn = 26,
}

/// What becomes of an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Deed {
    /// It waits for [`Proxy::reset`], and so does all that follows on its connection.
    Hold,
    /// It is lost; the connection stays.
    Swallow,
    /// It is lost, and the connection with it.
    Cut,
}

/// A running proxy; ends with the process.
#[derive(Clone)]
pub struct Proxy(Arc<Shared>);

struct Shared {
    upstream: u16,
    port: u16,
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Default)]
struct State {
    order: Option<Order>,
    /// Orders given; an answer that is held looks whether its own still stands.
    orders: u64,
    withheld: u64,
    delay: Duration,
    refusing: bool,
    seen: HashMap<i16, u64>,
    open: Vec<TcpStream>,
}

struct Order {
    api: Api,
    deed: Deed,
    left: u64,
}

impl Proxy {
    /// Listens on a free port, before the broker at `upstream` is there.
    pub fn start(upstream: u16) -> Proxy {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let proxy = Proxy(Arc::new(Shared {
            upstream,
            port: listener.local_addr().unwrap().port(),
            state: Mutex::default(),
            changed: Condvar::new(),
        }));
        let accepting = proxy.clone();
        thread::spawn(move || {
            for client in listener.incoming().flatten() {
                // A broker that is not there: the client finds a closed connection.
                let _ = accepting.connect(&client);
            }
        });
        proxy
    }

    pub fn port(&self) -> u16 {
        self.0.port
    }

    /// Does this to the next `left` answers to such requests.
    pub fn order(&self, api: Api, deed: Deed, left: u64) {
        let mut state = self.state();
        state.orders += 1;
        state.withheld = 0;
        state.order = Some(Order { api, deed, left });
    }

    /// How many answers the last order has met so far.
    pub fn withheld(&self) -> u64 {
        self.state().withheld
    }

    /// How many such requests have passed.
    #[cfg(feature = "fail-points")]
    pub fn seen(&self, api: Api) -> u64 {
        let state = self.state();
        state.seen.get(&(api as i16)).copied().unwrap_or_default()
    }

    /// Every answer comes so much later.
    pub fn delay(&self, delay: Duration) {
        self.state().delay = delay;
    }

    /// Closes every connection and takes no more.
    pub fn refuse(&self) {
        self.state().refusing = true;
        self.cut();
    }

    /// Closes every connection.
    pub fn cut(&self) {
        for stream in self.state().open.drain(..) {
            // The other side may have closed it before.
            let _ = stream.shutdown(Shutdown::Both);
        }
    }

    /// Lets everything pass again; what is held is let go.
    pub fn reset(&self) {
        let mut state = self.state();
        state.order = None;
        state.orders += 1;
        state.delay = Duration::ZERO;
        state.refusing = false;
        drop(state);
        self.0.changed.notify_all();
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.state.lock().unwrap()
    }

    fn connect(&self, client: &TcpStream) -> Result<()> {
        if self.state().refusing {
            return client.shutdown(Shutdown::Both);
        }
        let broker = TcpStream::connect(("127.0.0.1", self.0.upstream))?;
        for stream in [client, &broker] {
            stream.set_nodelay(true)?;
            self.state().open.push(stream.try_clone()?);
        }
        let asked: Arc<Mutex<HashMap<[u8; 4], i16>>> = Arc::default();
        let (proxy, noted) = (self.clone(), asked.clone());
        let (from, to) = (client.try_clone()?, broker.try_clone()?);
        pump(from, to, move |frame| {
            let api = i16::from_be_bytes([frame[0], frame[1]]);
            let id = frame[4..8].try_into().unwrap();
            noted.lock().unwrap().insert(id, api);
            *proxy.state().seen.entry(api).or_default() += 1;
            true
        });
        let proxy = self.clone();
        pump(broker, client.try_clone()?, move |frame| {
            let id: [u8; 4] = frame[..4].try_into().unwrap();
            let api = asked.lock().unwrap().remove(&id);
            proxy.answer(api)
        });
        Ok(())
    }

    /// Whether this answer may pass now.
    fn answer(&self, api: Option<i16>) -> bool {
        let delay = self.state().delay;
        if !delay.is_zero() {
            thread::sleep(delay);
        }
        let mut state = self.state();
        let Some(order) = &mut state.order else {
            return true;
        };
        if api != Some(order.api as i16) || order.left == 0 {
            return true;
        }
        order.left -= 1;
        let deed = order.deed;
        state.withheld += 1;
        match deed {
            Deed::Swallow => false,
            Deed::Cut => {
                drop(state);
                self.cut();
                false
            }
            Deed::Hold => {
                let mine = state.orders;
                let wait = self.0.changed.wait_while(state, |s| s.orders == mine);
                drop(wait.unwrap());
                true
            }
        }
    }
}

/// Carries frames from one side to the other, those that `passes` agrees to, until one side closes.
fn pump(mut from: TcpStream, mut to: TcpStream, passes: impl Fn(&[u8]) -> bool + Send + 'static) {
    thread::spawn(move || {
        while let Ok(frame) = read_frame(&mut from) {
            if passes(&frame[4..]) && to.write_all(&frame).is_err() {
                break;
            }
        }
        for stream in [from, to] {
            let _ = stream.shutdown(Shutdown::Both);
        }
    });
}

/// A whole frame, its length before it.
fn read_frame(from: &mut TcpStream) -> Result<Vec<u8>> {
    let mut frame = vec![0; 4];
    from.read_exact(&mut frame)?;
    let length = u32::from_be_bytes([frame[0], frame[1], frame[2], frame[3]]) as usize;
    frame.resize(4 + length, 0);
    from.read_exact(&mut frame[4..])?;
    Ok(frame)
}
