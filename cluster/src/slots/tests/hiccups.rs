//! What is away for a moment while etcd is away for long, and is well again: what is said then waits for no word of etcd.

use super::*;

/// Within this of its mending a way is used again, though etcd is away.
const SOON: Duration = Duration::from_secs(5);

/// Two nodes, the second of which is the standby of the first one's slot.
async fn pair(etcd: &memory::Memory, net: &Arc<Net>) -> (Member, Member, u8) {
    let a = Member::join_at(etcd.client(Arc::new(AtOnce)), net, "a").await;
    let b = Member::join_at(etcd.client(Arc::new(AtOnce)), net, "b").await;
    let number = a.ready().await.number;
    (a, b, number)
}

/// Something is said in time, as the standby has it.
async fn is_told(member: &Member, number: u8, id: u64) {
    let said = tokio::time::timeout(SOON, member.set(number, id, id)).await;
    assert_eq!(said.expect("it waits for etcd"), Kept::Known, "{id}");
}

#[tokio::test(start_paused = true)]
async fn a_standby_that_did_not_answer_for_a_moment_is_told_again_while_etcd_is_away() {
    let (etcd, net) = (memory::Memory::begin(), Arc::new(Net::default()));
    let (a, b, number) = pair(&etcd, &net).await;
    etcd.set_away(true);
    net.cut("b", "a");
    let (waits, mends) = (a.set(number, 1, 1), async {
        tokio::time::sleep(Duration::from_millis(500)).await;
        net.mend();
    });
    let both = async { tokio::join!(waits, mends).0 };
    let said = tokio::time::timeout(SOON, both).await;
    assert_eq!(said.expect("it waits for etcd"), Kept::Known);
    is_told(&a, number, 2).await;
    // And what was told twice is there once, and goes on where it is wanted.
    assert_eq!(b.slots.kept(number).0, 2);
    net.part("a", &["b"]);
    etcd.set_away(false);
    let arrived = tokio::time::timeout(2 * SOON, b.arrived(number)).await;
    assert_eq!(arrived.unwrap(), BTreeMap::from([(1, 1), (2, 2)]));
}

#[tokio::test(start_paused = true)]
async fn a_standby_that_did_not_hear_the_owner_for_a_moment_takes_what_it_is_told_while_etcd_is_away() {
    let (etcd, net) = (memory::Memory::begin(), Arc::new(Net::default()));
    let (a, b, number) = pair(&etcd, &net).await;
    is_told(&a, number, 1).await;
    etcd.set_away(true);
    net.cut("a", "b");
    tokio::time::sleep(Duration::from_millis(500)).await;
    net.mend();
    is_told(&a, number, 2).await;
    assert_eq!((b.slots.kept(number).0, b.slots.arrivals()), (2, (0, 0)));
    // Whoever has the slot once etcd is there has all of it.
    etcd.set_away(false);
    tokio::time::sleep(2 * SOON).await;
    let owner = if a.slots.holds(number) { &a } else { &b };
    assert_eq!(owner.memory.of(number).unwrap(), BTreeMap::from([(1, 1), (2, 2)]));
    assert_ne!(a.slots.holds(number), b.slots.holds(number));
}

#[tokio::test(start_paused = true)]
async fn a_standby_that_etcd_is_not_told_of_is_told_all_the_same() {
    let (etcd, net, way) = (memory::Memory::begin(), Arc::new(Net::default()), Arc::new(Way::default()));
    let a = Member::join_at(etcd.client(way.clone()), &net, "a").await;
    // All of it takes a moment, so that etcd is away before it is to make the standby ready.
    let gate = a.memory.resyncs.clone().acquire_many_owned(1).await.unwrap();
    let _b = Member::join_at(etcd.client(Arc::new(AtOnce)), &net, "b").await;
    let number = a.wait(a.slot(), |slot| slot.standby.is_some()).await.number;
    way.cut.store(true, Ordering::Relaxed);
    drop(gate);
    tokio::time::sleep(Duration::from_secs(15)).await;
    is_told(&a, number, 1).await;
    way.cut.store(false, Ordering::Relaxed);
    tokio::time::timeout(4 * SOON, a.ready()).await.expect("it is ready as soon as etcd is there");
}

#[tokio::test(start_paused = true)]
async fn a_standby_that_is_away_for_a_moment_while_it_is_told_everything_need_not_be_told_all_again() {
    let (etcd, net) = (memory::Memory::begin(), Arc::new(Net::default()));
    let a = Member::join_at(etcd.client(Arc::new(AtOnce)), &net, "a").await;
    let gate = a.memory.resyncs.clone().acquire_many_owned(1).await.unwrap();
    let b = Member::join_at(etcd.client(Arc::new(AtOnce)), &net, "b").await;
    let number = a.wait(a.slot(), |slot| slot.standby.is_some()).await.number;
    net.cut("b", "a");
    drop(gate);
    // Nothing waits for it meanwhile.
    let said = tokio::time::timeout(Duration::from_millis(10), a.set(number, 1, 1)).await;
    assert_eq!(said.unwrap(), Kept::Free);
    // Here it is known at once that nothing came back.
    tokio::time::sleep(Duration::from_millis(200)).await;
    net.mend();
    tokio::time::timeout(Duration::from_secs(2), a.ready()).await.expect("it goes on where it was");
    let resyncs = a.memory.done.lock().unwrap().iter().filter(|done| **done == ("resync", number)).count();
    assert_eq!((resyncs, b.slots.kept(number).0), (1, 1));
}

/// A way to etcd that takes so many milliseconds.
#[derive(Debug, Default)]
struct Slow(std::sync::atomic::AtomicU64);

impl memory::Path for Slow {
    fn time(&self) -> Option<Duration> {
        Some(Duration::from_millis(self.0.load(Ordering::Relaxed)))
    }
}

#[tokio::test(start_paused = true)]
async fn a_slot_that_a_standby_is_given_after_it_gave_that_up_goes_on_though_no_watch_tells_of_it() {
    let (etcd, net, slow) = (memory::Memory::begin(), Arc::new(Net::default()), Arc::new(Slow::default()));
    let a = Member::join_at(etcd.client(Arc::new(AtOnce)), &net, "a").await;
    let b = Member::join_at(etcd.client(slow.clone()), &net, "b").await;
    let number = a.ready().await.number;
    is_told(&a, number, 1).await;
    b.wait(number, |slot| slot.ready).await;
    etcd.mute();
    slow.0.store(300, Ordering::Relaxed);
    net.cut("a", "b");
    tokio::time::sleep(Duration::from_millis(200)).await;
    net.mend();
    let arrived = tokio::time::timeout(Duration::from_secs(1), b.arrived(number)).await;
    assert_eq!(arrived.expect("it hears of it by its own question"), BTreeMap::from([(1, 1)]));
}

/// Says so many things, with so long in between: a standby that fails at times fails at each of them once.
async fn say(member: &Member, number: u8, things: std::ops::Range<u64>, pause: Duration) {
    for id in things {
        let kept = member.set(number, id, id).await;
        assert_ne!(kept, Kept::Lost, "{id}");
        tokio::time::sleep(pause).await;
    }
}

/// Three nodes, and who of the others is the standby of the first one's slot, and who is not.
async fn three(etcd: &memory::Memory, net: &Arc<Net>) -> (Member, [Member; 2], Slot) {
    let a = Member::join_at(etcd.client(Arc::new(AtOnce)), net, "a").await;
    let b = Member::join_at(etcd.client(Arc::new(AtOnce)), net, "b").await;
    let c = Member::join_at(etcd.client(Arc::new(AtOnce)), net, "c").await;
    let slot = a.ready().await;
    let b_is_it = slot.standby.as_ref().is_some_and(|standby| standby.node == "b");
    (a, if b_is_it { [b, c] } else { [c, b] }, slot)
}

const NOT_SO_OFTEN: Duration = Duration::from_millis(500);

#[tokio::test(start_paused = true)]
async fn a_standby_that_fails_every_other_time_makes_room_for_another() {
    let (etcd, net) = (memory::Memory::begin(), Arc::new(Net::default()));
    let (a, [fitful, other], slot) = three(&etcd, &net).await;
    let (number, name) = (slot.number, |member: &Member| member.slots.0.own.node.clone());
    net.fails_at_times(Some(&name(&fitful)));
    say(&a, number, 0..20, NOT_SO_OFTEN).await;
    let has = |slot: &Slot, of: &Member| slot.ready && slot.standby.as_ref() == Some(&of.slots.0.own);
    let another = tokio::time::timeout(SOON, a.wait(number, |slot| has(slot, &other))).await;
    another.expect("it is kept, though another node is there");
    is_told(&a, number, 20).await;
    assert_eq!(other.slots.kept(number).0, 21);
    // It is better than none.
    net.fails_at_times(None);
    net.kill(other);
    say(&a, number, 21..30, NOT_SO_OFTEN).await;
    let again = tokio::time::timeout(SOON, a.wait(number, |slot| has(slot, &fitful))).await;
    again.expect("nobody is the standby, though one is there");
}

#[tokio::test(start_paused = true)]
async fn a_standby_that_fails_every_other_time_is_kept_where_there_is_no_other() {
    let (etcd, net) = (memory::Memory::begin(), Arc::new(Net::default()));
    let (a, b, number) = pair(&etcd, &net).await;
    let before = a.ready().await;
    net.fails_at_times(Some("b"));
    say(&a, number, 0..20, NOT_SO_OFTEN).await;
    assert_eq!(a.ready().await, before);
    assert_eq!(b.slots.kept(number).0, 20);
}

#[tokio::test(start_paused = true)]
async fn a_standby_that_fails_now_and_then_is_kept() {
    let (etcd, net) = (memory::Memory::begin(), Arc::new(Net::default()));
    let (a, [fitful, _other], slot) = three(&etcd, &net).await;
    net.fails_at_times(Some(&fitful.slots.0.own.node));
    say(&a, slot.number, 0..20, Duration::from_secs(3)).await;
    assert_eq!(a.ready().await, slot);
}
