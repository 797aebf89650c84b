//! A guest that crashes ends with a report that names the function.

use arca_tests::guest::Guest;

/// Runs `crash KIND` and looks for what the report must say.
#[track_caller]
fn crash(kind: &str, says: &[&str]) {
    let ended = Guest::start(&[], "crash", &[kind]).finish();
    ended.expect_code(101);
    for text in says {
        ended.expect_stderr(text);
    }
}

#[test]
fn the_last_log_lines_are_above_the_report_and_it_has_files_and_lines() {
    for kind in ["null-read", "panic", "ud2"] {
        let ended = Guest::start(&[], "crash", &[kind]).finish();
        ended.expect_code(101);
        let said = &ended.stderr;
        let at = |text: &str| {
            said.find(text)
                .unwrap_or_else(|| panic!("no {text:?} in:\n{said}"))
        };
        assert!(
            at(&format!("crash] about to end by {kind}")) < at("guest crashed on vCPU 0"),
            "{said}"
        );
        let backtrace = &said[at("backtrace:")..];
        // From the function that crashed, by the panic's own where there is one, to the
        // first of all: each with its file and line.
        for function in ["crash::_start::run (", "arca_guest::entry::start ("] {
            let line = backtrace.lines().find(|line| line.contains(function));
            let line = line.unwrap_or_else(|| panic!("no {function:?} in:\n{said}"));
            assert!(line.ends_with(')') && line.contains(".rs:"), "{line}");
        }
    }
}

#[test]
fn a_null_read() {
    crash(
        "null-read",
        &["page fault", "read_null_pointer", "null page"],
    );
}

#[test]
fn a_stack_overflow() {
    crash("stack-overflow", &["stack overflow", "overflow_stack"]);
}

#[test]
fn a_write_to_text() {
    crash("write-text", &["page fault", "write_own_text"]);
}

#[test]
fn a_panic() {
    crash("panic", &["panicked at", "crash.rs"]);
}

#[test]
fn a_backtrace_of_a_panic_begins_with_the_call_that_panicked() {
    for (kind, function) in [("panic", "panic_with_message"), ("heap", "exhaust_heap")] {
        let ended = Guest::start(&[], "crash", &[kind]).finish();
        let report = &ended.expect_code(101).stderr;
        let first = report.lines().find(|line| line.starts_with("     0: "));
        let first = first.unwrap_or_else(|| panic!("no backtrace in:\n{report}"));
        assert!(first.contains(function), "{report}");
        let at = report.lines().find(|line| line.starts_with("  at: "));
        assert!(at.is_some_and(|at| at.contains("crash.rs:")), "{report}");
    }
}

#[test]
fn an_exhausted_heap() {
    let ended = Guest::start(&["--memory", "16M"], "crash", &["heap"]).finish();
    ended.expect_code(101);
    let report = &ended.stderr;
    let told = report.lines().find(|line| line.contains("out of heap"));
    let told = told.unwrap_or_else(|| panic!("no word of the heap in:\n{report}"));
    // How large it is, what was asked for, and what to do.
    let numbers = told.split(|c: char| !c.is_ascii_digit());
    let numbers: Vec<u64> = numbers.filter_map(|number| number.parse().ok()).collect();
    let [size, asked] = numbers[..] else {
        panic!("{told}");
    };
    assert!(((8 << 20)..(16 << 20)).contains(&size), "{told}");
    assert_eq!(asked, 1 << 20, "{told}");
    assert!(told.contains("--memory"), "{told}");
    ended.expect_stderr("exhaust_heap");
}

#[test]
fn a_division_by_zero() {
    crash("divide-by-zero", &["divide", "divide_by_zero"]);
}

#[test]
fn an_invalid_opcode() {
    crash("ud2", &["invalid opcode"]);
}

#[test]
fn a_guest_that_spins_for_ever_runs_out_of_its_time() {
    let ended = Guest::start(&["--timeout", "500ms"], "crash", &["spin"]).finish();
    ended.expect_code(124);
}
