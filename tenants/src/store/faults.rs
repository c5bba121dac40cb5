//! Disks that fail and files that were damaged.

use std::collections::BTreeMap;
use std::io;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

use proptest::prelude::*;

use crate::store::disk::{Image, Medium, Octets};
use crate::store::{Batch, RedbStore, Store as _, StoreError};

/// A disk in memory that is full after some more writes.
#[derive(Debug, Default)]
struct Disk {
    image: Image,
    /// Writes, growths and syncs that go well; negative for all.
    left: AtomicI64,
}

impl Disk {
    fn sound(octets: Vec<u8>) -> Arc<Self> {
        Arc::new(Self { image: Image::new(octets), left: AtomicI64::new(-1) })
    }

    fn step(&self) -> io::Result<()> {
        match self.left.load(Ordering::Relaxed) {
            0 => Err(io::ErrorKind::StorageFull.into()),
            left => {
                self.left.store(left.saturating_sub(1).max(-1), Ordering::Relaxed);
                Ok(())
            }
        }
    }

    fn octets(&self) -> Vec<u8> {
        let mut octets = vec![0; usize::try_from(self.image.len().unwrap()).unwrap()];
        self.image.read(0, &mut octets).unwrap();
        octets
    }
}

impl Octets for Disk {
    fn len(&self) -> io::Result<u64> {
        self.image.len()
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        self.image.read(offset, out)
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.step()?;
        self.image.set_len(len)
    }

    fn sync(&self) -> io::Result<()> {
        self.step()
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        self.step()?;
        self.image.write(offset, data)
    }
}

type Rows = BTreeMap<String, Vec<u8>>;

fn open(disk: &Arc<Disk>) -> Result<RedbStore, StoreError> {
    RedbStore::on(Path::new("catalog.redb"), Medium(Arc::clone(disk) as Arc<dyn Octets>))
}

fn rows(store: &RedbStore) -> Rows {
    store.load().unwrap().into_iter().collect()
}

/// One commit, and how many steps of the disk go well from its beginning on.
#[derive(Clone, Debug)]
struct Step {
    puts: Vec<(u8, u16)>,
    deletes: Vec<u8>,
    left: Option<i64>,
}

fn any_step() -> impl Strategy<Value = Step> {
    let puts = proptest::collection::vec((0u8..12, 1u16..6000), 0..4);
    let deletes = proptest::collection::vec(0u8..12, 0..2);
    (puts, deletes, proptest::option::weighted(0.6, 0i64..24)).prop_map(|(puts, deletes, left)| Step {
        puts,
        deletes,
        left,
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(96))]

    /// Wherever the disk fails: what was acknowledged is there, what was refused is not, and when there is room again the
    /// next write goes through. A crash at any time leaves the last state, or that with a write that the disk did not let
    /// us take back yet.
    #[test]
    fn a_full_disk_refuses_a_write_and_nothing_else(steps in proptest::collection::vec(any_step(), 1..12)) {
        let disk = Disk::sound(Vec::new());
        let store = open(&disk).unwrap();
        let mut expected = Rows::new();
        let mut refused = Vec::new();
        for step in steps {
            let mut batch = Batch::default();
            for (key, length) in &step.puts {
                batch.put(format!("k{key}"), vec![*key; usize::from(*length)]);
            }
            for key in &step.deletes {
                batch.delete(format!("k{key}"));
            }
            let mut wanted = expected.clone();
            batch.apply_to(&mut wanted);
            disk.left.store(step.left.unwrap_or(-1), Ordering::Relaxed);
            match store.commit(&batch) {
                Ok(()) => {
                    expected = wanted;
                    refused.clear();
                }
                Err(error) => {
                    refused.push(wanted);
                    prop_assert!(matches!(error, StoreError::Disk { .. }), "{error}");
                    prop_assert!(error.to_string().starts_with("catalog.redb: "), "{error}");
                }
            }
            let crashed = rows(&open(&Disk::sound(disk.octets())).unwrap());
            prop_assert!(crashed == expected || refused.contains(&crashed));
            disk.left.store(-1, Ordering::Relaxed);
            prop_assert_eq!(&rows(&store), &expected);
        }
        store.commit(&Batch::default()).unwrap();
        prop_assert_eq!(&rows(&store), &expected);
        drop(store);
        prop_assert_eq!(&rows(&open(&disk).unwrap()), &expected);
    }
}

/// A store with enough in it for a tree of pages.
fn filled() -> (Vec<u8>, Rows) {
    let disk = Disk::sound(Vec::new());
    let store = open(&disk).unwrap();
    for round in 0..20u8 {
        let mut batch = Batch::default();
        for i in 0..10u8 {
            batch.put(format!("tenants/t{round}/peers/p{i}"), vec![round ^ i; 300 + usize::from(i) * 40]);
        }
        store.commit(&batch).unwrap();
    }
    let rows = rows(&store);
    drop(store);
    (disk.octets(), rows)
}

/// Damaged is told, or nothing was lost; it does not panic.
fn told_or_whole(octets: Vec<u8>, expected: &Rows, what: &str) {
    match open(&Disk::sound(octets)).and_then(|store| store.load()) {
        Ok(found) => {
            let found: Rows = found.into_iter().collect();
            assert!(found == *expected, "{what}: rows are lost or wrong, and nobody said so");
        }
        Err(error) => {
            let text = error.to_string();
            assert!(text.starts_with("catalog.redb"), "{what}: {text}");
            assert_eq!(text.lines().count(), 1, "{what}: {text}");
        }
    }
}

#[test]
fn random_octets_anywhere_are_told_or_harmless() {
    let (sound, expected) = filled();
    let mut random =
        proptest::test_runner::TestRng::deterministic_rng(proptest::test_runner::RngAlgorithm::ChaCha);
    let mut told = 0;
    // The header and the first pages one by one, then leaps over the rest.
    let places = (0..512).chain((512..sound.len()).step_by(sound.len() / 400));
    for place in places {
        let mut octets = sound.clone();
        let length = 1 + random.next_u32() as usize % 64;
        for octet in octets.iter_mut().skip(place).take(length) {
            *octet = random.next_u32() as u8;
        }
        told += usize::from(open(&Disk::sound(octets.clone())).is_err());
        told_or_whole(octets, &expected, &format!("{length} octets at {place}"));
    }
    assert!(told > 20, "{told}");
}

#[test]
fn a_file_cut_anywhere_is_told() {
    let (sound, expected) = filled();
    for length in (1..sound.len()).step_by(sound.len() / 200) {
        told_or_whole(sound[..length].to_vec(), &expected, &format!("cut to {length}"));
    }
    for garbage in [vec![0; 4096], b"not a database".to_vec(), vec![0xff; 100_000]] {
        let error = open(&Disk::sound(garbage)).unwrap_err();
        assert!(matches!(error, StoreError::Damaged { .. }), "{error}");
        assert!(error.to_string().contains("restore the file from a copy"), "{error}");
    }
}
