//! A server on loopback for tests: answers each request with what a closure says; used by tests only.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex};

/// A request as it came.
#[derive(Clone, Debug)]
pub(crate) struct Asked {
    /// Method and path: `POST /_bulk?x`.
    pub line: String,
    /// Headers, names in lower case.
    pub headers: BTreeMap<String, String>,
    /// The body as text.
    pub body: String,
}

type Answer = dyn FnMut(&Asked) -> (u16, String) + Send;

/// A server that lives as long as the process.
pub(crate) struct Double {
    /// `http://127.0.0.1:PORT`.
    pub url: String,
    asked: Arc<Mutex<Vec<Asked>>>,
}

impl Double {
    /// Starts a server on a port of its own. Status 0 closes the connection instead.
    pub(crate) fn start(answer: impl FnMut(&Asked) -> (u16, String) + Send + 'static) -> Double {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let url = format!("http://{}", listener.local_addr().expect("an address"));
        let asked = Arc::new(Mutex::new(Vec::new()));
        let (theirs, answer) = (Arc::clone(&asked), Arc::new(Mutex::new(Box::new(answer) as Box<Answer>)));
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let (asked, answer) = (Arc::clone(&theirs), Arc::clone(&answer));
                std::thread::spawn(move || serve(&stream, &asked, &answer));
            }
        });
        Double { url, asked }
    }

    /// All requests so far.
    pub(crate) fn asked(&self) -> Vec<Asked> {
        self.asked.lock().expect("not poisoned").clone()
    }
}

fn serve(stream: &TcpStream, asked: &Mutex<Vec<Asked>>, answer: &Mutex<Box<Answer>>) -> Option<()> {
    let mut reader = BufReader::new(stream);
    loop {
        let mut line = String::new();
        reader.read_line(&mut line).ok().filter(|n| *n > 0)?;
        let mut headers = BTreeMap::new();
        loop {
            let mut header = String::new();
            reader.read_line(&mut header).ok()?;
            let Some((name, value)) = header.trim().split_once(": ") else { break };
            headers.insert(name.to_ascii_lowercase(), value.to_owned());
        }
        let length = headers.get("content-length").map_or(0, |n| n.parse().expect("a length"));
        let mut body = vec![0; length];
        reader.read_exact(&mut body).ok()?;
        let line = line.trim().trim_end_matches(" HTTP/1.1").to_owned();
        let request = Asked { line, headers, body: String::from_utf8(body).expect("UTF-8") };
        asked.lock().expect("not poisoned").push(request.clone());
        let (status, text) = answer.lock().expect("not poisoned")(&request);
        if status == 0 {
            return None;
        }
        let head = format!("HTTP/1.1 {status} X\r\ncontent-length: {}\r\n\r\n{text}", text.len());
        (&*stream).write_all(head.as_bytes()).ok()?;
    }
}
