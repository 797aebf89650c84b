//! The differential oracle: what a guest sees of its sockets is what a native
//! program sees. The scripts are in the folder `cases`.

use arca_tests::oracle::check;

#[test]
fn connecting() {
    check("connect.txt");
}

#[test]
fn listening() {
    check("listen.txt");
}

#[test]
fn moving_bytes() {
    check("transfer.txt");
}

#[test]
fn settings() {
    check("settings.txt");
}

#[test]
fn orderly_ends() {
    check("endings.txt");
}

#[test]
fn half_closes() {
    check("halfclose.txt");
}

#[test]
fn resets() {
    check("resets.txt");
}
