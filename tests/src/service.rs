//! TCP services of the host, on loopback, for as long as the process lives.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

/// A listener on a free port.
///
/// # Panics
///
/// If there is none.
#[must_use]
pub fn listen() -> (TcpListener, SocketAddr) {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let address = listener.local_addr().expect("bound");
    (listener, address)
}

/// How many connections of a service are open.
#[derive(Clone, Default)]
pub struct Open(Arc<AtomicUsize>);

impl Open {
    /// The number now.
    #[must_use]
    pub fn count(&self) -> usize {
        self.0.load(Ordering::SeqCst)
    }
}

/// Gives back what it receives.
#[must_use]
pub fn echo() -> (SocketAddr, Open) {
    serve(|stream| {
        let mut buffer = vec![0; 64 << 10];
        while let Ok(len @ 1..) = stream.read(&mut buffer) {
            if stream.write_all(&buffer[..len]).is_err() {
                break;
            }
        }
    })
}

/// Starts a service; each connection has a thread.
#[must_use]
pub fn serve(each: impl Fn(&mut TcpStream) + Copy + Send + 'static) -> (SocketAddr, Open) {
    let (listener, address) = listen();
    let open = Open::default();
    let count = open.clone();
    thread::spawn(move || {
        for mut stream in listener.incoming().flatten() {
            let count = count.clone();
            count.0.fetch_add(1, Ordering::SeqCst);
            thread::spawn(move || {
                each(&mut stream);
                drop(stream);
                count.0.fetch_sub(1, Ordering::SeqCst);
            });
        }
    });
    (address, open)
}
