//! `chat`: many clients in a room.

use arca_tests::guest::{Guest, deadline};
use std::io::{BufRead, BufReader, Write};
use std::net::{SocketAddr, TcpStream};

/// Somebody in the room.
struct Client {
    lines: BufReader<TcpStream>,
    name: SocketAddr,
}

impl Client {
    fn come(room: SocketAddr) -> Self {
        let stream = TcpStream::connect(room).expect("it listens");
        stream.set_read_timeout(Some(deadline())).expect("a socket");
        stream
            .set_write_timeout(Some(deadline()))
            .expect("a socket");
        let name = stream.local_addr().expect("connected");
        let lines = BufReader::new(stream);
        Self { lines, name }
    }

    fn say(&mut self, text: &str) {
        let said = self.lines.get_mut().write_all(text.as_bytes());
        said.expect("the room listens");
    }

    #[track_caller]
    fn hears(&mut self, who: SocketAddr, text: &str) {
        let mut line = String::new();
        self.lines.read_line(&mut line).expect("the room talks");
        assert_eq!(line, format!("{who}: {text}\n"));
    }
}

#[test]
fn a_line_reaches_all_the_others() {
    let guest = Guest::start(&[], "chat", &["0"]);
    let room = guest.address_of("chat");
    let mut one = Client::come(room);
    let mut two = Client::come(room);
    one.hears(two.name, "has come");
    let mut three = Client::come(room);
    one.hears(three.name, "has come");
    two.hears(three.name, "has come");
    // In pieces, and two at once: lines are lines.
    two.say("hel");
    two.say("lo\nsecond\n");
    for other in [&mut one, &mut three] {
        other.hears(two.name, "hello");
        other.hears(two.name, "second");
    }
    let gone = three.name;
    drop(three);
    one.hears(gone, "has left");
    two.hears(gone, "has left");
}

#[test]
fn many_clients_hear_each_other() {
    const CLIENTS: usize = 50;
    let guest = Guest::start(&["--vcpus", "2"], "chat", &["0"]);
    let room = guest.address_of("chat");
    let mut clients: Vec<Client> = Vec::new();
    for _ in 0..CLIENTS {
        let new = Client::come(room);
        // Once they know of it, it is in the room.
        for client in &mut clients {
            client.hears(new.name, "has come");
        }
        clients.push(new);
    }
    for speaker in 0..CLIENTS {
        let name = clients[speaker].name;
        // The first one's coming is told to nobody: wait until all is heard.
        clients[speaker].say("here\n");
        for (number, client) in clients.iter_mut().enumerate() {
            if number != speaker {
                client.hears(name, "here");
            }
        }
    }
}

#[test]
fn a_client_that_does_not_read_holds_nobody_up() {
    let guest = Guest::start(&["--vcpus", "2"], "chat", &["0"]);
    let room = guest.address_of("chat");
    let mut one = Client::come(room);
    let mut two = Client::come(room);
    one.hears(two.name, "has come");
    let slow = Client::come(room);
    one.hears(slow.name, "has come");
    two.hears(slow.name, "has come");
    // More than the ring, the sockets and its queue hold, one line at a time: each is
    // heard before the next is said.
    let long = "x".repeat(4000);
    let mut told = false;
    for _ in 0..8000 {
        one.say(&format!("{long}\n"));
        let mut line = String::new();
        two.lines.read_line(&mut line).expect("the room talks");
        if line == format!("{}: does not keep up\n", slow.name) {
            told = true;
            break;
        }
        assert_eq!(line, format!("{}: {long}\n", one.name));
    }
    assert!(told, "the slow one was never sent away");
    one.hears(slow.name, "does not keep up");
}
