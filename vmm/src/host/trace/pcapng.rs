//! The blocks of a pcapng file, as its specification (draft-ietf-opsawg-pcapng) has
//! them: a section, its interfaces, packets with comments, and what was dropped. Each is
//! type, length, body, length again; integers are little-endian, everything is padded to
//! four bytes.

const SECTION: u32 = 0x0A0D_0D0A;
const INTERFACE: u32 = 1;
const STATISTICS: u32 = 5;
const PACKET: u32 = 6;
const BYTE_ORDER: u32 = 0x1A2B_3C4D;

const COMMENT: u16 = 1;
const NAME: u16 = 2;
const FLAGS: u16 = 2;
const APPLICATION: u16 = 4;
const DROPPED: u16 = 5;
const RESOLUTION: u16 = 9;

/// What an interface's packets are: raw IP.
pub const LINK_RAW: u16 = 101;
/// What an interface's packets are: the user's own.
pub const LINK_USER0: u16 = 147;

/// Which way a packet goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Way {
    /// In to the host.
    In = 1,
    /// Out of the host.
    Out = 2,
}

/// One block, whose length is written when it is done.
struct Block<'a> {
    out: &'a mut Vec<u8>,
    start: usize,
}

impl<'a> Block<'a> {
    fn begin(out: &'a mut Vec<u8>, kind: u32) -> Self {
        let start = out.len();
        let mut block = Self { out, start };
        block.u32(kind).u32(0);
        block
    }

    fn u16(&mut self, value: u16) -> &mut Self {
        self.bytes(&value.to_le_bytes())
    }

    fn u32(&mut self, value: u32) -> &mut Self {
        self.bytes(&value.to_le_bytes())
    }

    fn bytes(&mut self, bytes: &[u8]) -> &mut Self {
        self.out.extend_from_slice(bytes);
        self
    }

    fn pad(&mut self) -> &mut Self {
        let len = self.out.len() - self.start;
        self.bytes(&[0; 3][..len.next_multiple_of(4) - len])
    }

    fn option(&mut self, code: u16, value: &[u8]) -> &mut Self {
        // A longer one would not fit its length.
        let value = &value[..value.len().min(usize::from(u16::MAX))];
        self.u16(code).u16(value.len() as u16).bytes(value).pad()
    }

    fn end(mut self) {
        // The end of the options.
        self.u32(0);
        let len = (self.out.len() - self.start + 4) as u32;
        self.u32(len);
        self.out[self.start + 4..self.start + 8].copy_from_slice(&len.to_le_bytes());
    }
}

/// A time in nanoseconds, as its two halves.
fn halves(time: u64) -> [u32; 2] {
    [(time >> 32) as u32, time as u32]
}

/// Begins a file.
pub fn section(out: &mut Vec<u8>, application: &str) {
    let mut block = Block::begin(out, SECTION);
    // Version 1.0, and a section whose length is not known.
    block.u32(BYTE_ORDER).u16(1).u16(0).bytes(&[0xff; 8]);
    block.option(APPLICATION, application.as_bytes());
    block.end();
}

/// Adds an interface; the first is number 0. Times are in nanoseconds.
pub fn interface(out: &mut Vec<u8>, link: u16, name: &str) {
    let mut block = Block::begin(out, INTERFACE);
    block.u16(link).u16(0).u32(0);
    block.option(NAME, name.as_bytes());
    block.option(RESOLUTION, &[9]);
    block.end();
}

/// Adds a packet. `time`: nanoseconds since the Unix epoch.
pub fn packet(
    out: &mut Vec<u8>,
    interface: u32,
    time: u64,
    way: Way,
    packet: &[u8],
    comments: &[&str],
) {
    let [high, low] = halves(time);
    let len = packet.len() as u32;
    let mut block = Block::begin(out, PACKET);
    block.u32(interface).u32(high).u32(low).u32(len).u32(len);
    block.bytes(packet).pad();
    for comment in comments {
        block.option(COMMENT, comment.as_bytes());
    }
    block.option(FLAGS, &(way as u32).to_le_bytes());
    block.end();
}

/// Says how many packets of an interface are not in the file.
pub fn dropped(out: &mut Vec<u8>, interface: u32, time: u64, count: u64) {
    let [high, low] = halves(time);
    let mut block = Block::begin(out, STATISTICS);
    block.u32(interface).u32(high).u32(low);
    block.option(DROPPED, &count.to_le_bytes());
    block.end();
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_packet_byte_by_byte() {
        let mut out = Vec::new();
        packet(
            &mut out,
            1,
            0x0102_0304_0506_0708,
            Way::Out,
            b"abcde",
            &["hi"],
        );
        let wanted = [
            &[6, 0, 0, 0, 60, 0, 0, 0, 1, 0, 0, 0][..],
            &[4, 3, 2, 1, 8, 7, 6, 5, 5, 0, 0, 0, 5, 0, 0, 0],
            b"abcde\0\0\0",
            &[1, 0, 2, 0, b'h', b'i', 0, 0],
            &[2, 0, 4, 0, 2, 0, 0, 0],
            &[0, 0, 0, 0, 60, 0, 0, 0],
        ]
        .concat();
        assert_eq!(out, wanted);
    }
}
