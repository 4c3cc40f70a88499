//! An issuer's key set at an address on loopback that counts who asks for it. Never signs anything.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::{self, JoinHandle};
use std::time::Duration;

/// A server that answers everybody alike.
pub(crate) struct Issuer {
    address: SocketAddr,
    inner: Arc<Inner>,
    accepting: Option<JoinHandle<()>>,
}

#[derive(Default)]
struct Inner {
    answer: Mutex<Vec<u8>>,
    /// The rest of the answer comes one byte at a time, and never ends.
    drips: AtomicBool,
    asked: AtomicUsize,
    ended: AtomicBool,
}

impl Issuer {
    /// Starts one on a port, 0 for any; it closes every connection until it is told what to answer.
    pub(crate) fn start(port: u16) -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, port)).unwrap();
        let inner = Arc::new(Inner::default());
        let address = listener.local_addr().unwrap();
        let of_thread = Arc::clone(&inner);
        let accepting = thread::spawn(move || {
            for stream in listener.incoming() {
                if of_thread.ended.load(Ordering::SeqCst) {
                    return;
                }
                let inner = Arc::clone(&of_thread);
                thread::spawn(move || inner.answer(stream.unwrap()));
            }
        });
        Self {
            address,
            inner,
            accepting: Some(accepting),
        }
    }

    /// Where the set is.
    pub(crate) fn url(&self) -> String {
        format!("http://{}/jwks.json?v=1", self.address)
    }

    /// What a good issuer answers.
    pub(crate) fn serve(&self, set: &str) {
        self.answer(&format!(
            "HTTP/1.1 200 OK\r\nContent-Type: application/jwk-set+json\r\nContent-Length: {}\r\n\r\n{set}",
            set.len()
        ));
    }

    /// Any answer, head and all; an empty one closes the connection.
    pub(crate) fn answer(&self, answer: &str) {
        self.inner.drips.store(false, Ordering::SeqCst);
        answer
            .as_bytes()
            .clone_into(&mut self.inner.answer.lock().unwrap());
    }

    /// This, and then a blank now and then for ever.
    pub(crate) fn drip(&self, answer: &str) {
        self.answer(answer);
        self.inner.drips.store(true, Ordering::SeqCst);
    }

    /// How often it was asked.
    pub(crate) fn asked(&self) -> usize {
        self.inner.asked.load(Ordering::SeqCst)
    }
}

impl Inner {
    fn answer(&self, mut stream: TcpStream) {
        let mut head = Vec::new();
        let mut byte = [0];
        while !head.ends_with(b"\r\n\r\n") {
            match stream.read(&mut byte) {
                Ok(1) => head.extend_from_slice(&byte),
                Ok(_) | Err(_) => return,
            }
        }
        let head = String::from_utf8(head).unwrap().to_lowercase();
        assert!(
            head.starts_with("get /jwks.json?v=1 http/1.1\r\n"),
            "{head}"
        );
        assert!(head.contains("\r\nhost: 127.0.0.1:"), "{head}");
        self.asked.fetch_add(1, Ordering::SeqCst);
        let answer = self.answer.lock().unwrap().clone();
        // The client may have had enough.
        let _ = stream.write_all(&answer);
        while self.drips.load(Ordering::SeqCst)
            && !self.ended.load(Ordering::SeqCst)
            && stream.write_all(b" ").is_ok()
        {
            thread::sleep(Duration::from_millis(10));
        }
    }
}

impl Drop for Issuer {
    fn drop(&mut self) {
        self.inner.ended.store(true, Ordering::SeqCst);
        // Wakes the one that accepts.
        let _ = TcpStream::connect(self.address);
        if let Some(accepting) = self.accepting.take() {
            let _ = accepting.join();
        }
    }
}
