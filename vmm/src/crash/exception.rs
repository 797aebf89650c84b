//! Names of exceptions, and what their error codes say.

/// Vector of the divide error.
pub const DIVIDE_ERROR: u8 = 0;
/// Vector of the invalid opcode.
pub const INVALID_OPCODE: u8 = 6;
/// Vector of the general protection fault.
pub const GENERAL_PROTECTION: u8 = 13;
/// Vector of the page fault.
pub const PAGE_FAULT: u8 = 14;

/// An exception's name and its mnemonic.
pub fn name(vector: u8) -> (&'static str, &'static str) {
    match vector {
        DIVIDE_ERROR => ("divide error", "#DE"),
        1 => ("debug exception", "#DB"),
        2 => ("non-maskable interrupt", "NMI"),
        3 => ("breakpoint", "#BP"),
        4 => ("overflow", "#OF"),
        5 => ("bound range exceeded", "#BR"),
        INVALID_OPCODE => ("invalid opcode", "#UD"),
        7 => ("device not available", "#NM"),
        8 => ("double fault", "#DF"),
        10 => ("invalid TSS", "#TS"),
        11 => ("segment not present", "#NP"),
        12 => ("stack-segment fault", "#SS"),
        GENERAL_PROTECTION => ("general protection fault", "#GP"),
        PAGE_FAULT => ("page fault", "#PF"),
        16 => ("x87 floating-point error", "#MF"),
        17 => ("alignment check", "#AC"),
        18 => ("machine check", "#MC"),
        19 => ("SIMD floating-point error", "#XM"),
        20 => ("virtualization exception", "#VE"),
        21 => ("control protection exception", "#CP"),
        28 => ("hypervisor injection exception", "#HV"),
        29 => ("VMM communication exception", "#VC"),
        30 => ("security exception", "#SX"),
        _ => ("reserved exception", "#??"),
    }
}

/// What an access that faulted was trying to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Attempt {
    /// It read.
    Read,
    /// It wrote.
    Write,
    /// It fetched an instruction.
    Execute,
}

/// What a page fault's error code says was attempted.
pub fn attempt(error_code: u64) -> Attempt {
    if error_code & 0x10 != 0 {
        Attempt::Execute
    } else if error_code & 2 != 0 {
        Attempt::Write
    } else {
        Attempt::Read
    }
}

/// What an error code says, in words.
pub fn explain(vector: u8, error_code: u64) -> String {
    if vector == PAGE_FAULT {
        let attempt = match attempt(error_code) {
            Attempt::Read => "read",
            Attempt::Write => "write",
            Attempt::Execute => "instruction fetch",
        };
        let reason = if error_code & 1 == 0 {
            "page not mapped"
        } else {
            "not allowed on this page"
        };
        let ring = if error_code & 4 == 0 { 0 } else { 3 };
        let reserved = if error_code & 8 == 0 {
            ""
        } else {
            ", reserved bit set"
        };
        return format!("{attempt} from ring {ring}, {reason}{reserved}");
    }
    if error_code == 0 {
        return "no detail".into();
    }
    let table = match error_code >> 1 & 3 {
        0 => "GDT",
        2 => "LDT",
        _ => "IDT",
    };
    let external = if error_code & 1 == 0 {
        ""
    } else {
        ", external"
    };
    format!("{table} entry {}{external}", error_code >> 3 & 0x1fff)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn page_faults_are_explained() {
        assert_eq!(explain(14, 4), "read from ring 3, page not mapped");
        assert_eq!(
            explain(14, 7),
            "write from ring 3, not allowed on this page"
        );
        assert_eq!(attempt(0x15), Attempt::Execute);
    }

    #[test]
    fn selector_errors_are_explained() {
        assert_eq!(explain(13, 0), "no detail");
        assert_eq!(explain(13, 0x80 << 3 | 2), "IDT entry 128");
    }
}
