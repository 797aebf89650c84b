//! Connections as made-up TCP packets, and the frames of the control pipe, in a pcapng
//! file.
//!
//! The packets are none that were on a wire: each carries what the monitor moved in one
//! call, from and to the addresses of the host's socket. Sequence numbers count the
//! bytes of the stream, so that Wireshark puts the stream together, and shows a gap
//! where something was left out.

use super::pcapng::{self, Way};
use super::{left_out, text};
use arca_monitor::trace::{Direction, TraceEvent, TraceKind};
use etherparse::PacketBuilder;
use std::collections::HashMap;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::{SystemTime, UNIX_EPOCH};

/// The interfaces of the file.
const CONNECTIONS: u32 = 0;
const CONTROL: u32 = 1;
/// Most bytes of a stream in one packet: what fits an IP packet with its headers.
const SEGMENT: usize = 60_000;

/// Makes packets of events.
pub struct Capture {
    /// Nanoseconds from the Unix epoch to the first event.
    began: u64,
    flows: HashMap<u32, Flow>,
    packet: Vec<u8>,
}

/// What is known of a connection.
#[derive(Clone, Copy)]
struct Flow {
    local: SocketAddr,
    peer: SocketAddr,
    up: Side,
    down: Side,
}

/// What one side has sent.
#[derive(Clone, Copy, Default)]
struct Side {
    bytes: u64,
    ended: bool,
}

impl Side {
    /// The sequence number of what comes next. A stream's first byte has number 1.
    fn next(self) -> u32 {
        (self.bytes as u32)
            .wrapping_add(1)
            .wrapping_add(self.ended.into())
    }
}

/// The flags of a packet, besides that it acknowledges.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Flag {
    None,
    Syn,
    /// The first packet of all, which acknowledges nothing.
    FirstSyn,
    Push,
    Fin,
    Reset,
}

impl Capture {
    /// Begins a file.
    pub fn begin(began: SystemTime, out: &mut Vec<u8>) -> Self {
        let since_epoch = began.duration_since(UNIX_EPOCH).unwrap_or_default();
        pcapng::section(out, concat!("arca-vmm ", env!("CARGO_PKG_VERSION")));
        pcapng::interface(out, pcapng::LINK_RAW, "connections");
        pcapng::interface(out, pcapng::LINK_USER0, "control pipe");
        Self {
            began: u64::try_from(since_epoch.as_nanos()).unwrap_or(0),
            flows: HashMap::new(),
            packet: Vec::new(),
        }
    }

    /// Ends it, saying how many events it lacks.
    pub fn end(&self, left_out: u64, out: &mut Vec<u8>) {
        pcapng::dropped(out, CONNECTIONS, self.began, left_out);
    }

    /// Appends the packets of an event.
    pub fn write(&mut self, event: &TraceEvent, payload: &[u8], out: &mut Vec<u8>) {
        let time = self.began.saturating_add(event.nanos);
        let gap = left_out(event);
        let gap = gap.as_deref();
        match event.kind {
            TraceKind::Frame(direction) => {
                let says = text::frame(direction, payload);
                let comments: Vec<_> = gap.into_iter().chain([&says[..]]).collect();
                let way = way(direction);
                pcapng::packet(out, CONTROL, time, way, payload, &comments);
            }
            TraceKind::Opened {
                id,
                listener,
                local,
                peer,
                ..
            } => self.open(id, listener, local, peer, &mut Packets { time, gap, out }),
            TraceKind::Data {
                id,
                direction,
                before,
                ..
            } => self.data(
                id,
                direction,
                before,
                payload,
                &mut Packets { time, gap, out },
            ),
            TraceKind::HalfClosed {
                id,
                direction,
                bytes,
            } => self.half_close(id, direction, bytes, &mut Packets { time, gap, out }),
            TraceKind::Reset { id, by, errno } => {
                let why = errno.map(|errno| format!("{}: {errno}", errno.name()));
                let mut packets = Packets { time, gap, out };
                if let Some(flow) = self.flows.get(&id) {
                    packets.put(&mut self.packet, flow, by, Flag::Reset, &[], why.as_deref());
                }
            }
            TraceKind::Freed { id } => _ = self.flows.remove(&id),
            TraceKind::ReaderClosed { .. } | TraceKind::End => {}
        }
    }

    fn open(
        &mut self,
        id: u32,
        listener: u32,
        local: Option<SocketAddr>,
        peer: Option<SocketAddr>,
        packets: &mut Packets<'_>,
    ) {
        let unknown = SocketAddr::new(IpAddr::V4(Ipv4Addr::UNSPECIFIED), 0);
        let mut flow = Flow {
            local: local.unwrap_or(unknown),
            peer: peer.unwrap_or(unknown),
            up: Side::default(),
            down: Side::default(),
        };
        if flow.local.is_ipv4() != flow.peer.is_ipv4() {
            (flow.local, flow.peer) = (unknown, unknown);
        }
        let (first, second) = match listener {
            0 => (Direction::Up, Direction::Down),
            _ => (Direction::Down, Direction::Up),
        };
        let name = format!("connection {id}");
        let packet = &mut self.packet;
        packets.put(packet, &flow, first, Flag::FirstSyn, &[], Some(&name));
        packets.put(packet, &flow, second, Flag::Syn, &[], None);
        packets.put(packet, &flow, first, Flag::None, &[], None);
        self.flows.insert(id, flow);
    }

    fn data(
        &mut self,
        id: u32,
        direction: Direction,
        before: u64,
        payload: &[u8],
        packets: &mut Packets<'_>,
    ) {
        // One whose beginning was left out has no addresses.
        let Some(flow) = self.flows.get_mut(&id) else {
            return;
        };
        flow.side(direction).bytes = before;
        for piece in payload.chunks(SEGMENT) {
            packets.put(&mut self.packet, flow, direction, Flag::Push, piece, None);
            flow.side(direction).bytes += piece.len() as u64;
        }
    }

    fn half_close(&mut self, id: u32, direction: Direction, bytes: u64, packets: &mut Packets<'_>) {
        let Some(flow) = self.flows.get_mut(&id) else {
            return;
        };
        flow.side(direction).bytes = bytes;
        if !std::mem::replace(&mut flow.side(direction).ended, true) {
            // It has the number of what it ends.
            let mut before = *flow;
            before.side(direction).ended = false;
            packets.put(&mut self.packet, &before, direction, Flag::Fin, &[], None);
            let other = match direction {
                Direction::Up => Direction::Down,
                Direction::Down => Direction::Up,
            };
            packets.put(&mut self.packet, flow, other, Flag::None, &[], None);
        }
    }
}

impl Flow {
    fn side(&mut self, direction: Direction) -> &mut Side {
        match direction {
            Direction::Up => &mut self.up,
            Direction::Down => &mut self.down,
        }
    }
}

fn way(direction: Direction) -> Way {
    match direction {
        Direction::Up => Way::Out,
        Direction::Down => Way::In,
    }
}

/// The packets of one event.
struct Packets<'a> {
    time: u64,
    /// What the first of them says of events before.
    gap: Option<&'a str>,
    out: &'a mut Vec<u8>,
}

impl Packets<'_> {
    fn put(
        &mut self,
        packet: &mut Vec<u8>,
        flow: &Flow,
        direction: Direction,
        flag: Flag,
        payload: &[u8],
        comment: Option<&str>,
    ) {
        let (from, to, own, other) = match direction {
            Direction::Up => (flow.local, flow.peer, flow.up, flow.down),
            Direction::Down => (flow.peer, flow.local, flow.down, flow.up),
        };
        const HOPS: u8 = 64;
        let builder = match (from.ip(), to.ip()) {
            (IpAddr::V4(from), IpAddr::V4(to)) => {
                PacketBuilder::ipv4(from.octets(), to.octets(), HOPS)
            }
            (from, to) => {
                let octets = |ip: IpAddr| match ip {
                    IpAddr::V4(ip) => ip.to_ipv6_mapped().octets(),
                    IpAddr::V6(ip) => ip.octets(),
                };
                PacketBuilder::ipv6(octets(from), octets(to), HOPS)
            }
        };
        let sequence = match flag {
            Flag::Syn | Flag::FirstSyn => 0,
            _ => own.next(),
        };
        let builder = builder.tcp(from.port(), to.port(), sequence, u16::MAX);
        let builder = match flag {
            Flag::FirstSyn => builder.syn(),
            Flag::None => builder.ack(other.next()),
            Flag::Syn => builder.syn().ack(other.next()),
            Flag::Push => builder.psh().ack(other.next()),
            Flag::Fin => builder.fin().ack(other.next()),
            Flag::Reset => builder.rst().ack(other.next()),
        };
        packet.clear();
        // It fails only if the packet were too long for IP, or the buffer full.
        if builder.write(packet, payload).is_err() {
            return;
        }
        let gap = self.gap.take();
        let comments: Vec<_> = gap.into_iter().chain(comment).collect();
        let way = way(direction);
        pcapng::packet(self.out, CONNECTIONS, self.time, way, packet, &comments);
    }
}
