//! A TCP proxy on loopback that waits before it passes on what a client sends. Holds one buffer per connection and direction.

use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::Duration;

const BUFFER_BYTES: usize = 256 * 1024;

/// A proxy; its threads end with the process.
pub struct DelayingProxy {
    /// Where clients connect.
    pub port: u16,
    delay_ms: Arc<AtomicU64>,
}

impl DelayingProxy {
    /// Starts one in front of a server on loopback.
    pub fn start(server: u16, delay: Duration) -> Result<Self, String> {
        let listener = TcpListener::bind(("127.0.0.1", 0)).map_err(|e| e.to_string())?;
        let port = listener.local_addr().map_err(|e| e.to_string())?.port();
        let delay_ms = Arc::new(AtomicU64::new(u64::try_from(delay.as_millis()).unwrap_or(u64::MAX)));
        let delays = Arc::clone(&delay_ms);
        thread::spawn(move || {
            for client in listener.incoming().flatten() {
                let Ok(upstream) = TcpStream::connect(SocketAddr::from(([127, 0, 0, 1], server))) else { continue };
                let (Ok(back), Ok(to_client)) = (upstream.try_clone(), client.try_clone()) else { continue };
                let delays = Arc::clone(&delays);
                thread::spawn(move || pass_on(client, upstream, Some(&delays)));
                thread::spawn(move || pass_on(back, to_client, None));
            }
        });
        Ok(Self { port, delay_ms })
    }

    /// Changes the delay of what comes from now on.
    pub fn set_delay(&self, delay: Duration) {
        self.delay_ms.store(u64::try_from(delay.as_millis()).unwrap_or(u64::MAX), Ordering::Relaxed);
    }
}

fn pass_on(mut from: TcpStream, mut to: TcpStream, delay_ms: Option<&AtomicU64>) {
    let _ = to.set_nodelay(true);
    let mut buffer = vec![0; BUFFER_BYTES];
    loop {
        let read = from.read(&mut buffer).unwrap_or(0);
        if let Some(delay_ms) = delay_ms {
            thread::sleep(Duration::from_millis(delay_ms.load(Ordering::Relaxed)));
        }
        if read == 0 || to.write_all(&buffer[..read]).is_err() {
            let _ = (from.shutdown(Shutdown::Both), to.shutdown(Shutdown::Both));
            return;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use super::*;

    #[test]
    #[allow(clippy::disallowed_methods, reason = "it is about time")]
    fn what_a_client_sends_waits() {
        let echo = TcpListener::bind(("127.0.0.1", 0)).unwrap();
        let server = echo.local_addr().unwrap().port();
        thread::spawn(move || {
            let (mut stream, _) = echo.accept().unwrap();
            let mut bytes = [0; 4];
            while stream.read_exact(&mut bytes).is_ok() {
                stream.write_all(&bytes).unwrap();
            }
        });
        let proxy = DelayingProxy::start(server, Duration::from_millis(120)).unwrap();
        let mut client = TcpStream::connect(("127.0.0.1", proxy.port)).unwrap();
        let mut trip = |text: &[u8; 4]| {
            let start = Instant::now();
            client.write_all(text).unwrap();
            let mut back = [0; 4];
            client.read_exact(&mut back).unwrap();
            assert_eq!(&back, text);
            start.elapsed()
        };
        assert!(trip(b"slow") >= Duration::from_millis(120));
        proxy.set_delay(Duration::ZERO);
        assert!(trip(b"fast") < Duration::from_millis(100));
    }
}
