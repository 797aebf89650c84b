//! The memory functions that compiled code calls by name.
//!
//! A program without a C library has to bring them. Copies go through vector
//! registers: `rep movsb` falls to a tenth of its speed on some processors where
//! source and destination are not aligned alike, and a ring's data never is.
//!
//! None of these may be written in a way that the compiler turns back into a
//! call of itself, which is a reason for assembly.

use core::arch::asm;
use core::arch::x86_64::__m128i;

/// Copies `n` bytes from `src` to `dest`, which do not overlap.
///
/// # Safety
///
/// `src` must be readable and `dest` writable for `n` bytes, and the two must
/// not overlap.
#[cfg_attr(feature = "image", unsafe(no_mangle))]
pub unsafe extern "C" fn memcpy(dest: *mut u8, src: *const u8, n: usize) -> *mut u8 {
    // SAFETY: the caller vouches for `n` bytes of both areas.
    unsafe { copy_forwards(dest, src, n) };
    dest
}

/// Copies `n` bytes from `src` to `dest`. They may overlap if `dest` is the lower
/// one: no byte of the source is overwritten before it is read.
///
/// # Safety
///
/// `src` must be readable and `dest` writable for `n` bytes.
#[inline(always)]
unsafe fn copy_forwards(dest: *mut u8, src: *const u8, n: usize) {
    // SAFETY: the caller vouches for `n` bytes of both areas, and every access
    // stays inside them: each word is within the first or last bytes.
    unsafe {
        if n >= 16 {
            match n {
                65.. => copy_blocks(dest, src, n),
                32.. => copy_ends::<[__m128i; 2]>(dest, src, n),
                _ => copy_ends::<__m128i>(dest, src, n),
            }
        } else {
            match n {
                8.. => copy_ends::<u64>(dest, src, n),
                4.. => copy_ends::<u32>(dest, src, n),
                2.. => copy_ends::<u16>(dest, src, n),
                1 => dest.write(src.read()),
                0 => {}
            }
        }
    }
}

/// [`copy_forwards`] for more than 64 bytes: 64 at a time, to aligned addresses.
/// The first 16 bytes and the last 64, which are not, are read before anything is
/// written, and written when all else is done.
///
/// # Safety
///
/// As for [`copy_forwards`]; `n` is more than 64.
#[inline(always)]
unsafe fn copy_blocks(dest: *mut u8, src: *const u8, n: usize) {
    // SAFETY: the caller vouches for both areas. The loop writes from the first
    // aligned address, at most 16 bytes into the area, and goes on while more than
    // the last 64 bytes are left.
    unsafe {
        asm!(
            "movups xmm8, [rsi]",
            "movups xmm4, [rsi + {n} - 64]",
            "movups xmm5, [rsi + {n} - 48]",
            "movups xmm6, [rsi + {n} - 32]",
            "movups xmm7, [rsi + {n} - 16]",
            "lea {last}, [rdi + {n} - 64]",
            "mov {first}, rdi",
            "add rdi, 16",
            "and rdi, -16",
            "sub rsi, {first}",
            "add rsi, rdi",
            "cmp rdi, {last}",
            "jae 3f",
            "2:",
            "movups xmm0, [rsi]",
            "movups xmm1, [rsi + 16]",
            "movups xmm2, [rsi + 32]",
            "movups xmm3, [rsi + 48]",
            "movaps [rdi], xmm0",
            "movaps [rdi + 16], xmm1",
            "movaps [rdi + 32], xmm2",
            "movaps [rdi + 48], xmm3",
            "add rsi, 64",
            "add rdi, 64",
            "cmp rdi, {last}",
            "jb 2b",
            "3:",
            "movups [{last}], xmm4",
            "movups [{last} + 16], xmm5",
            "movups [{last} + 32], xmm6",
            "movups [{last} + 48], xmm7",
            "movups [{first}], xmm8",
            n = in(reg) n,
            first = out(reg) _,
            last = out(reg) _,
            inout("rdi") dest => _,
            inout("rsi") src => _,
            out("xmm0") _,
            out("xmm1") _,
            out("xmm2") _,
            out("xmm3") _,
            out("xmm4") _,
            out("xmm5") _,
            out("xmm6") _,
            out("xmm7") _,
            out("xmm8") _,
            options(nostack),
        );
    }
}

/// Copies the first and the last `Word` of `n` bytes, both read before either is
/// written.
///
/// # Safety
///
/// As for [`copy_forwards`]; `n` is between one and two times the size of `Word`.
#[inline(always)]
unsafe fn copy_ends<Word: Copy>(dest: *mut u8, src: *const u8, n: usize) {
    let last = n - size_of::<Word>();
    // SAFETY: both words are inside the `n` bytes that the caller vouches for,
    // and no access here asks for alignment.
    unsafe {
        let head = src.cast::<Word>().read_unaligned();
        let tail = src.add(last).cast::<Word>().read_unaligned();
        dest.cast::<Word>().write_unaligned(head);
        dest.add(last).cast::<Word>().write_unaligned(tail);
    }
}

/// Copies `n` bytes from `src` to `dest`, which may overlap.
///
/// # Safety
///
/// `src` must be readable and `dest` writable for `n` bytes.
#[cfg_attr(feature = "image", unsafe(no_mangle))]
pub unsafe extern "C" fn memmove(dest: *mut u8, src: *const u8, n: usize) -> *mut u8 {
    // A destination that starts inside the source is the one case where a
    // forward copy would read what it has already overwritten.
    if (dest as usize).wrapping_sub(src as usize) >= n {
        // SAFETY: the caller vouches for both areas; if they overlap, `dest` is
        // the lower one.
        unsafe { copy_forwards(dest, src, n) };
        return dest;
    }
    let words = n / 8;
    let tail = n % 8;
    // SAFETY: the caller vouches for both areas, and every address formed is
    // inside them: the tail bytes are copied from the last one down, then whole
    // words from the last one down. The direction flag is clear again at the
    // end, as the ABI wants it.
    unsafe {
        asm!(
            "std",
            "rep movsb",
            "sub rsi, 7",
            "sub rdi, 7",
            "mov rcx, {words}",
            "rep movsq",
            "cld",
            words = in(reg) words,
            inout("rcx") tail => _,
            inout("rdi") dest.wrapping_add(n).wrapping_sub(1) => _,
            inout("rsi") src.wrapping_add(n).wrapping_sub(1) => _,
            options(nostack),
        );
    }
    dest
}

/// Sets `n` bytes at `dest` to the low byte of `value`.
///
/// # Safety
///
/// `dest` must be writable for `n` bytes.
#[cfg_attr(feature = "image", unsafe(no_mangle))]
pub unsafe extern "C" fn memset(dest: *mut u8, value: i32, n: usize) -> *mut u8 {
    // SAFETY: the caller vouches for the area; the direction flag is clear on
    // entry to every function of this ABI.
    unsafe {
        asm!(
            "rep stosb",
            inout("rcx") n => _,
            inout("rdi") dest => _,
            in("al") value as u8,
            options(nostack, preserves_flags),
        );
    }
    dest
}

/// Compares `n` bytes as unsigned numbers, the first difference deciding.
///
/// # Safety
///
/// `a` and `b` must be readable for `n` bytes.
#[cfg_attr(feature = "image", unsafe(no_mangle))]
pub unsafe extern "C" fn memcmp(a: *const u8, b: *const u8, n: usize) -> i32 {
    let mut at = 0;
    while at + 8 <= n {
        // SAFETY: `at + 8 <= n`, and the caller vouches for `n` bytes of both;
        // neither load asks for alignment.
        let (x, y) = unsafe {
            (
                a.add(at).cast::<u64>().read_unaligned(),
                b.add(at).cast::<u64>().read_unaligned(),
            )
        };
        if x != y {
            // The byte at the lowest address is the most significant one.
            return if x.swap_bytes() < y.swap_bytes() {
                -1
            } else {
                1
            };
        }
        at += 8;
    }
    while at < n {
        // SAFETY: `at < n`, and the caller vouches for `n` bytes of both.
        let (x, y) = unsafe { (a.add(at).read(), b.add(at).read()) };
        if x != y {
            return i32::from(x) - i32::from(y);
        }
        at += 1;
    }
    0
}

/// Compares `n` bytes: 0 if they are equal.
///
/// # Safety
///
/// As for [`memcmp`].
#[cfg_attr(feature = "image", unsafe(no_mangle))]
pub unsafe extern "C" fn bcmp(a: *const u8, b: *const u8, n: usize) -> i32 {
    // SAFETY: the caller's promise is the one that `memcmp` asks for.
    unsafe { memcmp(a, b, n) }
}

/// Length of the zero-terminated string at `s`, without its zero.
///
/// # Safety
///
/// `s` must be readable up to and including a zero byte.
#[cfg_attr(feature = "image", unsafe(no_mangle))]
pub unsafe extern "C" fn strlen(s: *const u8) -> usize {
    let mut length = 0;
    // SAFETY: no byte before this one was zero, so it belongs to the string. The
    // volatile read keeps the compiler from recognising a `strlen` here.
    while unsafe { s.add(length).read_volatile() } != 0 {
        length += 1;
    }
    length
}

/// Named by the precompiled `core`; nothing unwinds here, so nothing calls it.
#[cfg(feature = "image")]
#[unsafe(no_mangle)]
pub extern "C" fn rust_eh_personality() {}

/// Named by the precompiled `alloc`; nothing unwinds here, so nothing calls it.
#[cfg(feature = "image")]
#[unsafe(no_mangle)]
pub extern "C" fn _Unwind_Resume() -> ! {
    crate::registers::abandon()
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::vec::Vec;

    /// Every length around the sizes that are treated differently.
    fn lengths() -> impl Iterator<Item = usize> {
        (0..70).chain([
            79, 80, 81, 96, 127, 128, 129, 143, 144, 145, 1000, 4096, 4099,
        ])
    }

    fn pattern(len: usize) -> Vec<u8> {
        (0..len).map(|i| (i * 7 % 251) as u8).collect()
    }

    #[test]
    fn copies_and_overlapping_copies() {
        for n in lengths() {
            for distance in [0, 1, 3, 8, 15, 16, 17, 31, 48, 63, 64, 65, n] {
                for (from, to) in [(9, 9 + distance), (9 + distance, 9)] {
                    let mut bytes = pattern(n + distance + 18);
                    let mut expected = bytes.clone();
                    expected.copy_within(from..from + n, to);
                    let base = bytes.as_mut_ptr();
                    // SAFETY: both ranges are inside `bytes`; they overlap only
                    // where `memmove` is used.
                    unsafe {
                        if distance >= n {
                            memcpy(base.add(to), base.add(from), n);
                        } else {
                            memmove(base.add(to), base.add(from), n);
                        }
                    }
                    assert_eq!(bytes, expected, "{n} bytes from {from} to {to}");
                }
            }
        }
    }

    #[test]
    fn comparisons_agree_with_slices() {
        for n in lengths() {
            let a = pattern(n);
            for at in [0, n / 2, n.saturating_sub(1)] {
                let mut b = a.clone();
                if let Some(byte) = b.get_mut(at) {
                    *byte ^= 0x80;
                }
                // SAFETY: both slices have `n` bytes.
                let (one, other) = unsafe {
                    (
                        memcmp(a.as_ptr(), b.as_ptr(), n),
                        bcmp(b.as_ptr(), a.as_ptr(), n),
                    )
                };
                assert_eq!(one.cmp(&0), a.cmp(&b));
                assert_eq!(other.cmp(&0), b.cmp(&a));
            }
        }
    }

    #[test]
    fn filling_and_measuring() {
        for n in lengths() {
            let mut bytes = alloc::vec![1_u8; n + 2];
            // SAFETY: the range is inside `bytes`.
            unsafe { memset(bytes.as_mut_ptr().add(1), 0x1_23, n) };
            assert!(bytes[1..=n].iter().all(|&byte| byte == 0x23));
            assert_eq!((bytes[0], bytes[n + 1]), (1, 1));
            bytes[n + 1] = 0;
            // SAFETY: the last byte is a zero.
            assert_eq!(unsafe { strlen(bytes.as_ptr()) }, n + 1);
        }
    }
}
