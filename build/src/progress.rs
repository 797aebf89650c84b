//! What a build says while it builds, and nothing if there is nothing to build.

use std::env;
use std::io::{IsTerminal, Read, Write, stderr};
use std::process::Command;

/// How cargo begins the last line of a build that went well.
const END: &[u8] = b"Finished";

/// Columns of the progress bar, where cargo cannot see the terminal.
const WIDTH: &str = "80";

/// Makes cargo show its progress although its standard error is a pipe, if ours
/// is a terminal.
pub fn show_as_on_terminal(command: &mut Command) {
    if !stderr().is_terminal() {
        return;
    }
    for (name, value) in [
        ("CARGO_TERM_COLOR", "always"),
        ("CARGO_TERM_PROGRESS_WHEN", "always"),
        ("CARGO_TERM_PROGRESS_WIDTH", WIDTH),
    ] {
        // What the user chose stays.
        if env::var_os(name).is_none() {
            command.env(name, value);
        }
    }
}

/// Passes on what cargo says, as it comes, unless all of it is that the build has
/// finished.
pub fn pass(mut from: impl Read, to: &mut impl Write) {
    let mut held = Some(Vec::new());
    let mut buffer = [0; 4096];
    while let Ok(len @ 1..) = from.read(&mut buffer) {
        let piece = match held.take() {
            None => buffer[..len].to_vec(),
            Some(mut start) => {
                start.extend_from_slice(&buffer[..len]);
                if may_be_all(&start) {
                    held = Some(start);
                    continue;
                }
                start
            }
        };
        // Where nobody can be told, the build goes on all the same.
        let _ = to.write_all(&piece).and_then(|()| to.flush());
    }
}

/// Whether this is, so far, the line about the end and nothing else.
fn may_be_all(said: &[u8]) -> bool {
    let plain = plain(said);
    let text = plain.trim_ascii_start();
    let common = text.len().min(END.len());
    let lines = text.trim_ascii_end().iter().filter(|&&byte| byte == b'\n');
    text[..common] == END[..common] && lines.count() == 0
}

/// Text without what sets colours or clears lines: ESC, `[`, up to a letter.
fn plain(text: &[u8]) -> Vec<u8> {
    let mut plain = Vec::new();
    let mut bytes = text.iter();
    while let Some(&byte) = bytes.next() {
        match byte {
            0x1b => drop(bytes.find(|byte| byte.is_ascii_alphabetic())),
            byte => plain.push(byte),
        }
    }
    plain
}

#[cfg(test)]
mod tests {
    use super::pass;
    use std::io::Read;

    /// Gives a byte at a time, the worst that a pipe can do.
    struct Bytes<'a>(&'a [u8]);

    impl Read for Bytes<'_> {
        fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
            self.0.read(&mut buffer[..1])
        }
    }

    fn passed(text: &str) -> String {
        let (mut whole, mut bytes) = (Vec::new(), Vec::new());
        pass(text.as_bytes(), &mut whole);
        pass(Bytes(text.as_bytes()), &mut bytes);
        assert_eq!(whole, bytes);
        String::from_utf8(whole).expect("text")
    }

    #[test]
    fn a_build_with_nothing_to_do_says_nothing() {
        assert_eq!(passed(""), "");
        assert_eq!(passed("    Finished `guest` profile in 0.05s\n"), "");
        let coloured = "\x1b[K\x1b[1m\x1b[92m    Finished\x1b[0m `guest` in 0.05s\n";
        assert_eq!(passed(coloured), "");
    }

    #[test]
    fn a_build_with_something_to_do_says_all() {
        for text in [
            "   Compiling arca-guest\n    Finished `guest` profile in 0.05s\n",
            "\x1b[1m   Compiling\x1b[0m arca-guest\n    Finished in 0.05s\n",
            "    Building [====>   ] 3/7: arca-guest\r    Finished in 1s\n",
            "error: expected `;`\n",
            "    Blocking waiting for file lock on build directory\n",
            "    Finished in 0.05s\nwarning: 3 warnings\n",
        ] {
            assert_eq!(passed(text), text);
        }
    }
}
