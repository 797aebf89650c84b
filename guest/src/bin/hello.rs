//! Says hello and prints its arguments.

#![no_std]
#![no_main]

use arca_guest::println;

arca_guest::entry!(main);

fn main() {
    println!("hello from Arca");
    for (index, argument) in arca_guest::args().enumerate().skip(1) {
        println!("argument {index}: {argument}");
    }
}
