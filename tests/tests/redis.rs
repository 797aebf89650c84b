//! `redis-cli`: one command to a real Redis.

use arca_tests::data::{assert_same, noise};
use arca_tests::guest::Guest;
use arca_tests::redis::Redis;
use arca_tests::{service, skip};
use std::io::{Read, Write};
use std::process::{Command, Stdio};

/// What the guest's redis-cli prints.
fn ours(port: &str, command: &[&str]) -> Vec<u8> {
    let args = [&["127.0.0.1", port], command].concat();
    let ended = Guest::start(&[], "redis-cli", &args).finish();
    ended.expect_code(0);
    ended.stdout
}

/// What Redis's own prints, where its output is no terminal.
fn theirs(port: &str, command: &[&str], input: &[u8]) -> Option<Vec<u8>> {
    let mut cli = Command::new("redis-cli");
    cli.args(["-p", port]).args(command);
    let cli = cli.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn();
    let Ok(mut cli) = cli else {
        skip("redis-cli is missing");
        return None;
    };
    let mut stdin = cli.stdin.take().expect("a pipe");
    stdin.write_all(input).expect("it reads");
    drop(stdin);
    let output = cli.wait_with_output().expect("it ends");
    assert!(output.status.success(), "{:?}", output.stderr);
    Some(output.stdout)
}

#[test]
fn replies_are_printed_as_redis_prints_them() {
    let Some(redis) = Redis::start() else {
        return;
    };
    let port = redis.port().to_string();
    let value = noise(5, 1 << 20);
    // Its value is what standard input has.
    if theirs(&port, &["-x", "SET", "big"], &value).is_none() {
        return;
    }
    for command in [
        &["PING"][..],
        &["SET", "key", "a value with spaces, and ü"],
        &["GET", "key"],
        &["GET", "no such key"],
        &["INCRBY", "number", "-7"],
        &["RPUSH", "list", "one", "", "three"],
        &["LRANGE", "list", "0", "-1"],
        &["LRANGE", "no such list", "0", "-1"],
        &["NO-SUCH-COMMAND", "x"],
        &["INCR", "key"],
        &["EVAL", "return {1, {'two', {}, false}, 3}", "0"],
    ] {
        // Twice, as some change what the next one finds.
        let got = ours(&port, command);
        let wanted = theirs(&port, command, b"").expect("it was there");
        let (got, wanted) = (
            String::from_utf8_lossy(&got),
            String::from_utf8_lossy(&wanted),
        );
        match command[0] {
            "INCRBY" | "RPUSH" => assert_eq!(got.lines().count(), wanted.lines().count()),
            _ => assert_eq!(got, wanted, "{command:?}"),
        }
    }
    let got = ours(&port, &["GET", "big"]);
    assert_same(&got, &[&value[..], b"\n"].concat());
    assert_eq!(ours(&port, &["INCRBY", "number", "-7"]), b"-21\n");
}

#[test]
fn what_is_no_reply_is_said() {
    for (answer, says) in [
        (&b"hello\r\n"[..], "no reply"),
        (b"$x\r\n", "length"),
        (b"$10\r\nshort", "within a string"),
        (b"", "ended the connection"),
        (&b"*1\r\n".repeat(100)[..], "no reply"),
    ] {
        let answer: &'static [u8] = answer.to_owned().leak();
        let (address, _) = service::serve(move |stream| {
            // An answer before the question would be lost: a connection that is
            // closed with something unread is reset.
            let _ = stream.read(&mut [0; 1024]);
            let _ = stream.write_all(answer);
        });
        let port = address.port().to_string();
        let ended = Guest::start(&[], "redis-cli", &["127.0.0.1", &port, "PING"]).finish();
        ended.expect_code(1).expect_stderr(says);
    }
}
