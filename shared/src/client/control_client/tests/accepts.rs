//! Tests of accepts: those that are given up, those sent ahead, and what is kept.

use super::*;
use crate::pipe::PipePlace;

const LISTENER: u32 = 5;
const ANOTHER: u32 = 6;
/// Requests that are sent ahead at once, and how many are left when others follow.
const AHEAD: u32 = 16;
const LOW: u32 = 8;

/// A peer, and the control of its session, in which both listeners are open.
fn listening() -> (Arc<Peer>, Arc<ControlClient>) {
    let (peer, control) = control();
    control.open_listener(LISTENER);
    control.open_listener(ANOTHER);
    (peer, control)
}

/// What asks for connections of a listener, with these ids.
fn accepts(ids: impl IntoIterator<Item = u32>) -> Vec<(u32, Request)> {
    ids.into_iter().map(|id| (id, accept())).collect()
}

fn cancel(request_id: u32) -> (u32, Request) {
    (0, Request::Cancel { request_id })
}

/// Has the peer answer an accept with a connection, whose place it gives, and the
/// reply be taken.
fn come(peer: &Peer, id: u32) -> PipePlace {
    let (place, _) = peer.pipe(64);
    peer.reply(id, Peer::accepted(LISTENER, place));
    peer.reactor.turn();
    place
}

/// Checks that an accept is answered with the connection of that place.
#[track_caller]
fn gives(call: &mut Call, place: PipePlace) {
    let reply = Peer::accepted(LISTENER, place);
    assert_eq!(poll(call), Poll::Ready(Ok(reply)));
}

/// A program that has just been given its first connection.
fn given() -> (Arc<Peer>, Arc<ControlClient>) {
    let (peer, control) = listening();
    let mut call = control.accept(LISTENER);
    assert_eq!(peer.requests(), accepts([1]));
    let place = come(&peer, 1);
    gives(&mut call, place);
    peer.take_marks();
    (peer, control)
}

/// One that has asked for the next without waiting: with id 2, and from 3 on ahead.
fn going_straight_on() -> (Arc<Peer>, Arc<ControlClient>, Call) {
    let (peer, control) = given();
    let call = control.accept(LISTENER);
    assert_eq!(peer.requests(), accepts(2..3 + AHEAD));
    assert!(peer.was_marked(peer.control), "all with one mark");
    (peer, control, call)
}

#[test]
fn one_that_goes_straight_on_has_accepts_sent_ahead() {
    let (peer, control, mut call) = going_straight_on();
    let place = come(&peer, 2);
    gives(&mut call, place);
    // What was sent ahead is the next ones' own; others follow in a bunch.
    let mut sent = 3 + AHEAD;
    for id in 3..3 + 4 * AHEAD {
        let mut call = control.accept(LISTENER);
        assert!(poll(&mut call).is_pending());
        let more = match sent - (id + 1) {
            LOW => AHEAD - LOW,
            _ => 0,
        };
        assert_eq!(peer.requests(), accepts(sent..sent + more), "accept {id}");
        sent += more;
        let place = come(&peer, id);
        gives(&mut call, place);
    }
}

#[test]
fn a_bunch_that_comes_at_once_is_kept_and_given_in_order() {
    let (peer, control, mut call) = going_straight_on();
    let places: Vec<PipePlace> = (2..3 + AHEAD).map(|id| come(&peer, id)).collect();
    gives(&mut call, places[0]);
    let mut sent = Vec::new();
    for place in &places[1..] {
        let mut call = control.accept(LISTENER);
        gives(&mut call, *place);
        sent.push(peer.requests().len() as u32);
    }
    // When half of them were taken, and when as many more were.
    let mut expected = vec![0; AHEAD as usize];
    for at in [AHEAD - LOW, 2 * (AHEAD - LOW)] {
        expected[at as usize - 1] = AHEAD - LOW;
    }
    assert_eq!(sent, expected);
}

#[test]
fn one_that_waits_for_something_else_first_has_none() {
    let (peer, control) = given();
    peer.reactor.turn();
    let _call = control.accept(LISTENER);
    assert_eq!(peer.requests(), accepts([2]));
    // Nor has one that was given a connection elsewhere, or of another listener.
    let hal = TestHal::default();
    let peer = Peer::new(hal, 2, 4072);
    let control = join(&peer);
    control.open_listener(LISTENER);
    control.open_listener(ANOTHER);
    let mut call = control.accept(LISTENER);
    let place = come(&peer, 1);
    gives(&mut call, place);
    peer.requests();
    let _another = control.accept(ANOTHER);
    assert_eq!(peer.requests().len(), 1);
    // The other sleeper has taken as many turns.
    peer.hal.sleeper.store(1, Ordering::Relaxed);
    peer.reactor.turn();
    let _call = control.accept(LISTENER);
    assert_eq!(peer.requests().len(), 1);
}

#[test]
fn what_was_sent_ahead_is_used_up_by_one_that_goes_straight_on_no_longer() {
    let (peer, control, mut call) = going_straight_on();
    let place = come(&peer, 2);
    gives(&mut call, place);
    for id in 3..3 + AHEAD {
        peer.reactor.turn();
        let mut call = control.accept(LISTENER);
        let place = come(&peer, id);
        gives(&mut call, place);
    }
    assert_eq!(peer.requests(), []);
    peer.reactor.turn();
    let _call = control.accept(LISTENER);
    assert_eq!(peer.requests(), accepts([3 + AHEAD]));
}

#[test]
fn an_accept_that_was_sent_ahead_is_given_up_as_any_other() {
    let (peer, control, mut call) = going_straight_on();
    let mut next = control.accept(LISTENER);
    assert!(poll(&mut call).is_pending() && poll(&mut next).is_pending());
    next.cancel();
    assert_eq!(peer.requests(), [cancel(3)]);
    peer.reply(3, Reply::AcceptErr(Errno::ECANCELED));
    peer.reactor.turn();
    let cancelled = Reply::AcceptErr(Errno::ECANCELED);
    assert_eq!(poll(&mut next), Poll::Ready(Ok(cancelled)));
    drop(control.accept(LISTENER));
    assert_eq!(peer.requests(), [cancel(4)]);
    // It had come by then: it is the one's that waits.
    let place = come(&peer, 4);
    gives(&mut call, place);
    assert_eq!(peer.requests(), [cancel(2)]);
}

#[test]
fn an_error_that_nobody_has_asked_for_yet_is_nobodys() {
    let (peer, control, mut call) = going_straight_on();
    for id in 3..3 + AHEAD {
        peer.reply(id, Reply::AcceptErr(Errno::ECONNABORTED));
    }
    peer.reactor.turn();
    assert!(poll(&mut call).is_pending());
    // None of them is waited for.
    let _next = control.accept(LISTENER);
    assert_eq!(peer.requests(), accepts([3 + AHEAD]));
}

#[test]
fn accepts_that_are_ahead_are_given_up_when_something_is_short() {
    for reply in [
        Reply::AcceptErr(Errno::EAGAIN),
        Reply::ConnectErr(Errno::ENFILE),
        Reply::Failed(Errno::ENOBUFS),
    ] {
        let (peer, control, mut call) = going_straight_on();
        let mut other = control.call(ask());
        peer.requests();
        // To the last that was sent ahead, or to something else.
        let (id, ahead) = match reply {
            Reply::AcceptErr(_) => (2 + AHEAD, 3..2 + AHEAD),
            _ => (3 + AHEAD, 3..3 + AHEAD),
        };
        peer.reply(id, reply);
        peer.reactor.turn();
        assert_eq!(
            peer.requests(),
            ahead.clone().map(cancel).collect::<Vec<_>>()
        );
        match reply {
            Reply::AcceptErr(_) => assert!(poll(&mut other).is_pending()),
            reply => assert_eq!(poll(&mut other), Poll::Ready(Ok(reply))),
        }
        // One of them has come, and goes to who waits.
        assert!(poll(&mut call).is_pending());
        let place = come(&peer, 3);
        gives(&mut call, place);
        assert_eq!(peer.requests(), [cancel(2)]);
        // From now on each accept is asked for when it is made.
        let _next = control.accept(LISTENER);
        assert_eq!(peer.requests(), accepts([4 + AHEAD]));
    }
}

#[test]
fn an_accept_that_was_refused_for_those_ahead_is_asked_for_again() {
    // That one, or one of those ahead, is the first of which the refusal is seen.
    for ahead_first in [false, true] {
        let (peer, control, _call) = going_straight_on();
        let mut refused = control.accept(ANOTHER);
        let id = 3 + AHEAD;
        assert_eq!(peer.requests().len(), 1);
        assert!(poll(&mut refused).is_pending());
        let refusal = Reply::AcceptErr(Errno::EAGAIN);
        let again = Request::AcceptFrom {
            listener_id: ANOTHER,
        };
        let mut expected: Vec<_> = (3..3 + AHEAD).map(cancel).collect();
        if ahead_first {
            peer.reply(2 + AHEAD, refusal);
            expected.pop();
        }
        expected.push((id, again));
        peer.reply(id, refusal);
        peer.reactor.turn();
        assert_eq!(peer.requests(), expected);
        assert!(poll(&mut refused).is_pending());
        // The second time it was not on their account.
        peer.reply(id, refusal);
        peer.reactor.turn();
        assert_eq!(peer.requests(), []);
        assert_eq!(poll(&mut refused), Poll::Ready(Ok(refusal)));
        // Nor is one that is made later.
        let mut later = control.accept(ANOTHER);
        assert_eq!(peer.requests(), [(4 + AHEAD, again)]);
        peer.reply(4 + AHEAD, refusal);
        peer.reactor.turn();
        assert_eq!(poll(&mut later), Poll::Ready(Ok(refusal)));
    }
}

#[test]
fn an_accept_that_was_given_up_is_not_asked_for_again() {
    let (peer, control, _call) = going_straight_on();
    let mut refused = control.accept(ANOTHER);
    refused.cancel();
    assert_eq!(peer.requests().len(), 2);
    let refusal = Reply::AcceptErr(Errno::EAGAIN);
    peer.reply(3 + AHEAD, refusal);
    peer.reactor.turn();
    let cancels: Vec<_> = (3..3 + AHEAD).map(cancel).collect();
    assert_eq!(peer.requests(), cancels);
    assert_eq!(poll(&mut refused), Poll::Ready(Ok(refusal)));
}

#[test]
fn no_more_are_ahead_on_all_listeners_than_a_monitor_lets_wait() {
    let peer = Peer::new(TestHal::default(), 1, 65_512);
    let control = join(&peer);
    let mut ahead = 0;
    for listener in 1..=100 {
        control.open_listener(listener);
        let mut call = control.accept(listener);
        let (id, _) = peer.request();
        let (place, _) = peer.pipe(64);
        peer.reply(id, Peer::accepted(listener, place));
        peer.reactor.turn();
        assert!(poll(&mut call).is_ready());
        drop(control.accept(listener));
        ahead += peer.requests().len() - 2;
    }
    assert_eq!(ahead, 512);
}

#[test]
fn an_accepted_connection_goes_to_the_oldest_other_accept() {
    let (peer, control) = listening();
    let first = control.accept(LISTENER);
    let _other = control.accept(ANOTHER);
    let mut second = control.accept(LISTENER);
    let mut third = control.accept(LISTENER);
    let wakes = Arc::new(Wakes::default());
    assert!(wakes.poll(&mut second).is_pending());
    assert!(poll(&mut third).is_pending());
    peer.requests();
    drop(first);
    let place = come(&peer, 1);
    assert_eq!(peer.requests(), [cancel(1), cancel(3)]);
    assert_eq!(wakes.count(), 1);
    gives(&mut second, place);
    assert!(poll(&mut third).is_pending());
    // The reply to the second's own request is nobody's.
    peer.reply(3, Reply::AcceptErr(Errno::ECANCELED));
    peer.reactor.turn();
    assert!(poll(&mut third).is_pending());
    // And its number is used no more, for it is still to come only once.
    assert!(control.calls.lock().unowned.is_empty());
}

#[test]
fn an_accepted_connection_is_kept_for_the_next_accept() {
    let (peer, control) = listening();
    for _ in 0..2 {
        drop(control.accept(LISTENER));
    }
    peer.requests();
    let places = [1, 2].map(|id| come(&peer, id));
    let mut other = control.accept(ANOTHER);
    assert!(poll(&mut other).is_pending());
    assert_eq!(peer.requests().len(), 1);
    for place in places {
        gives(&mut control.accept(LISTENER), place);
        assert_eq!(peer.requests(), [], "nothing had to be asked");
        peer.reactor.turn();
    }
    let mut call = control.accept(LISTENER);
    assert!(poll(&mut call).is_pending());
    assert_eq!(peer.requests().len(), 1);
}

#[test]
fn a_connection_that_is_taken_and_not_used_is_the_next_ones() {
    let (peer, control) = listening();
    for _ in 0..2 {
        drop(control.accept(LISTENER));
    }
    let places = [1, 2].map(|id| come(&peer, id));
    peer.requests();
    let taken = control.accept(LISTENER);
    taken.cancel();
    assert_eq!(peer.requests(), [], "it has no number to cancel");
    drop(taken);
    gives(&mut control.accept(LISTENER), places[0]);
    peer.reactor.turn();
    gives(&mut control.accept(LISTENER), places[1]);
    // The same with one that was answered.
    peer.reactor.turn();
    let answered = control.accept(LISTENER);
    drop(control.accept(LISTENER));
    peer.requests();
    let places = [3, 4].map(|id| come(&peer, id));
    drop(answered);
    for place in places {
        peer.reactor.turn();
        gives(&mut control.accept(LISTENER), place);
    }
}

/// Whether a pipe was closed from Arca's side, and the peer is to be reset.
fn is_reset(end: &mut BidirectionalPipe) -> bool {
    let closed = end.is_peer_read_closed() && end.is_peer_write_closed();
    assert_eq!(closed, end.incoming().errno() == Errno::ECONNRESET.0);
    closed
}

#[test]
fn an_accepted_connection_of_a_closed_listener_is_reset() {
    let (peer, control) = control();
    let (place, mut end) = peer.pipe(64);
    drop(control.accept(LISTENER));
    peer.reply(1, Peer::accepted(LISTENER, place));
    peer.reactor.turn();
    assert!(is_reset(&mut end));
}

#[test]
fn a_listener_that_closes_resets_what_was_kept_for_it() {
    let (peer, control) = listening();
    let mut pipes: Vec<_> = (0..2).map(|_| peer.pipe(64)).collect();
    for (listener_id, (place, _)) in (LISTENER..).zip(&pipes) {
        drop(control.accept(listener_id));
        peer.reply(listener_id - 4, Peer::accepted(listener_id, *place));
    }
    peer.reactor.turn();
    peer.requests();
    control.close_listener(LISTENER);
    let close = Request::CloseListener {
        listener_id: LISTENER,
    };
    assert_eq!(peer.requests(), [(0, close)]);
    assert!(is_reset(&mut pipes[0].1));
    assert!(!is_reset(&mut pipes[1].1));
}

#[test]
fn a_listener_that_closes_resets_what_comes_for_accepts_that_are_ahead() {
    let (peer, control, call) = going_straight_on();
    drop(call);
    control.close_listener(LISTENER);
    assert_eq!(peer.requests().len(), 2);
    let (place, mut end) = peer.pipe(64);
    peer.reply(3, Peer::accepted(LISTENER, place));
    for id in 4..3 + AHEAD {
        peer.reply(id, Reply::AcceptErr(Errno::EBADF));
    }
    peer.reactor.turn();
    assert_eq!(peer.requests(), []);
    assert!(is_reset(&mut end));
    // Only the one that was given up has no reply yet.
    assert_eq!(control.calls.lock().unowned.len(), 1);
}
