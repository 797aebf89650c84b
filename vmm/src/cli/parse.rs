//! Reading a command line.

use crate::host::descriptor::StandardError;
use crate::vm::status::CODE_NOT_STARTED;
use clap::Parser;
use std::io::Write;

/// Reads this process's command line.
///
/// # Errors
///
/// The exit code for the process: 0 after help was printed, and
/// [`CODE_NOT_STARTED`] after a line that says what is wrong, since any other could
/// be a guest program's.
pub fn parse<C: Parser>() -> Result<C, u8> {
    C::try_parse().map_err(|error| {
        if !error.use_stderr() {
            // Help and versions. Whoever closed standard output does not want them.
            let _ = error.print();
            return 0;
        }
        let line = in_one_line(&error.render().to_string());
        let _ = StandardError.write_all(format!("{line}\n").as_bytes());
        CODE_NOT_STARTED
    })
}

/// What is wrong and what to do, of an error's several paragraphs.
fn in_one_line(text: &str) -> String {
    let lines = text.lines().map(str::trim);
    let telling = lines.filter(|line| !line.is_empty() && !line.starts_with("Usage:"));
    telling.collect::<Vec<_>>().join("; ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_is_one_line() {
        let error = crate::cli::Command::try_parse_from(["arca", "--vcpu", "3", "image"]);
        let text = error.err().expect("refused").render().to_string();
        let line = in_one_line(&text);
        assert!(
            line.starts_with("error: unexpected argument '--vcpu'"),
            "{line}"
        );
        assert!(
            line.contains("'--vcpus'") && line.contains("--help"),
            "{line}"
        );
        assert!(!line.contains('\n'), "{line}");
    }
}
