//! What happens in a session, as the input of the fuzz target says it.

/// An operation: a code and three operands, a byte each, and for some a payload
/// behind them. Written so, an input is easily made by hand, and what a fuzzer
/// changes stays in its place.
///
/// | code | what |
/// |---|---|
/// | 0 | a request of type a with id b, and c bytes of any payload |
/// | 1 | a request of the kind a with id b, whose fields c decides and mean something |
/// | 2 | c bytes that are no frame, or a part of one |
/// | 3 | a turn of the monitor, and Arca takes its replies |
/// | 4, 5 | Arca writes to pipe a, or reads, b times 16 bytes |
/// | 6 | Arca closes ends b of pipe a: with bit 0 of c abortively, with bit 1 the connection |
/// | 7 | a client connects to listener a |
/// | 8, 9 | peer a writes, or reads, b times 16 bytes |
/// | 10 | peer a hangs up, in the way b |
/// | 11 | Arca rings |
/// | 12 | Arca marks slot a, b |
/// | 13 | Arca stores a hostile value of the kind c near what a says, at word b; 8 bytes follow |
/// | 14 | somebody wants the session to end, in the way a |
pub struct Operation<'a> {
    /// What to do, below 15.
    pub code: u8,
    /// The first operand.
    pub a: u8,
    /// The second.
    pub b: u8,
    /// The third.
    pub c: u8,
    /// The bytes behind them, fewer at the end of the input.
    pub payload: &'a [u8],
}

impl<'a> Operation<'a> {
    /// Takes the next operation off an input; `None` at its end.
    pub fn read(input: &mut &'a [u8]) -> Option<Self> {
        let (&[code, a, b, c], rest) = input.split_first_chunk()?;
        let code = code % 15;
        let len = match code {
            0 | 2 => c.into(),
            13 => 8,
            _ => 0,
        };
        let (payload, rest) = rest.split_at(rest.len().min(len));
        *input = rest;
        Some(Self {
            code,
            a,
            b,
            c,
            payload,
        })
    }
}
