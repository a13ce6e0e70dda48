//! Asks a server in its own protocol whether it serves. Never waits longer than a second, never changes anything there.

use std::fs;
use std::io::{Read, Result, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::time::Duration;

const PATIENCE: Duration = Duration::from_secs(1);

/// How to ask.
#[derive(Clone, Copy)]
pub enum Probe {
    /// An ApiVersions request, version 0.
    Kafka,
    /// `ruok`.
    ZooKeeper,
    /// The greeting a MySQL server opens with.
    MySql,
    /// A start-up message as `postgres`, which is trusted.
    Postgres,
    /// `GET /`.
    Http,
}

impl Probe {
    /// Whether the server on loopback answers as it should.
    pub fn ready(self, port: u16) -> bool {
        self.ask(port).unwrap_or(false)
    }

    fn ask(self, port: u16) -> Result<bool> {
        let address = SocketAddr::from(([127, 0, 0, 1], port));
        let mut stream = TcpStream::connect_timeout(&address, PATIENCE)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        stream.set_write_timeout(Some(PATIENCE))?;
        match self {
            Self::Kafka => {
                // Length, api 18, version 0, correlation id 7, client id "x".
                stream.write_all(&[0, 0, 0, 11, 0, 18, 0, 0, 0, 0, 0, 7, 0, 1, b'x'])?;
                // Length, correlation id, error code.
                let answer = bytes::<10>(&mut stream)?;
                Ok(answer[4..] == [0, 0, 0, 7, 0, 0])
            }
            Self::ZooKeeper => {
                stream.write_all(b"ruok")?;
                Ok(&bytes::<4>(&mut stream)? == b"imok")
            }
            // Length and sequence number, then protocol version 10; 255 is an error packet.
            Self::MySql => Ok(bytes::<5>(&mut stream)?[4] == 10),
            Self::Postgres => {
                let mut message = vec![0, 3, 0, 0];
                message.extend_from_slice(b"user\0postgres\0database\0postgres\0\0");
                stream.write_all(&(message.len() as u32 + 4).to_be_bytes())?;
                stream.write_all(&message)?;
                Ok(bytes::<1>(&mut stream)? == *b"R")
            }
            Self::Http => {
                stream.write_all(b"GET / HTTP/1.0\r\nHost: 127.0.0.1\r\n\r\n")?;
                Ok(bytes::<12>(&mut stream)?.ends_with(b" 200"))
            }
        }
    }
}

fn bytes<const N: usize>(stream: &mut TcpStream) -> Result<[u8; N]> {
    let mut buffer = [0; N];
    stream.read_exact(&mut buffer)?;
    Ok(buffer)
}

/// Whether it is this process that listens on the port, on whatever address.
pub fn listens(pid: u32, port: u16) -> bool {
    let tables = ["/proc/net/tcp", "/proc/net/tcp6"].map(|t| fs::read_to_string(t).unwrap_or_default());
    // number: local-address:port remote state … … … … … inode; state 0A is LISTEN.
    let inode = |line: &str| {
        let fields: Vec<&str> = line.split_whitespace().collect();
        let here = fields.get(1)?.ends_with(&format!(":{port:04X}")) && *fields.get(3)? == "0A";
        here.then(|| format!("socket:[{}]", fields.get(9).copied().unwrap_or_default()))
    };
    let sockets: Vec<String> = tables.iter().flat_map(|t| t.lines().filter_map(inode)).collect();
    let Ok(open) = fs::read_dir(format!("/proc/{pid}/fd")) else { return false };
    let links = open.filter_map(|f| fs::read_link(f.ok()?.path()).ok());
    links.into_iter().any(|l| sockets.iter().any(|s| l.as_os_str() == s.as_str()))
}

/// Whether nobody listens on any of the ports.
pub fn free(ports: &[u16]) -> bool {
    ports.iter().all(|p| TcpListener::bind(("127.0.0.1", *p)).is_ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A listener that answers one connection with `answer`, after reading `read` bytes.
    fn answering(read: usize, answer: &'static [u8]) -> u16 {
        let listener = TcpListener::bind(("127.0.0.1", 0)).unwrap();
        let port = listener.local_addr().unwrap().port();
        std::thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            stream.read_exact(&mut vec![0; read]).unwrap();
            stream.write_all(answer).unwrap();
        });
        port
    }

    #[test]
    fn answers_decide() {
        assert!(Probe::ZooKeeper.ready(answering(4, b"imok")));
        assert!(!Probe::ZooKeeper.ready(answering(4, b"This ZooKeeper instance is not currently serving requests")));
        assert!(Probe::Http.ready(answering(10, b"HTTP/1.1 200 OK")));
        assert!(!Probe::Http.ready(answering(10, b"HTTP/1.1 503 Unavailable")));
        assert!(Probe::MySql.ready(answering(0, &[70, 0, 0, 0, 10, b'1'])));
        assert!(!Probe::MySql.ready(answering(0, &[70, 0, 0, 0, 255, 16])), "too many connections");
    }

    #[test]
    fn a_port_that_is_taken_is_not_free() {
        let listener = TcpListener::bind(("127.0.0.1", 0)).unwrap();
        let port = listener.local_addr().unwrap().port();
        assert!(!free(&[port]));
        assert!(listens(std::process::id(), port));
        assert!(!listens(1, port));
        drop(listener);
        assert!(free(&[port]));
        assert!(!Probe::MySql.ready(port));
    }
}
