//! The law of [`CheckpointStorage`], run on every implementation.

use super::*;

/// What every storage must do, on an empty one.
pub(crate) fn run(s: &dyn CheckpointStorage) {
    let b = |t: &'static str| Bytes::from_static(t.as_bytes());
    assert_eq!(s.get("a/b", None).unwrap(), None);
    assert_eq!(s.list("a").unwrap(), Vec::<String>::new());
    assert_eq!(s.list("").unwrap(), Vec::<String>::new());
    s.delete("a/b").unwrap();

    assert!(s.put_new("a/b/c", b("hello")).unwrap());
    assert!(!s.put_new("a/b/c", b("other")).unwrap(), "never overwritten");
    assert_eq!(s.get("a/b/c", None).unwrap(), Some(b("hello")));
    assert_eq!(s.get("a/b/c", Some(1..3)).unwrap(), Some(b("el")));
    assert_eq!(s.get("a/b/c", Some(3..99)).unwrap(), Some(b("lo")), "short at the end");
    assert_eq!(s.get("a/b/c", Some(50..99)).unwrap(), Some(b("")));
    assert_eq!(s.get("a/b", None).unwrap(), None, "a directory is no file");
    assert!(s.put_new("a/x", b("")).unwrap());
    assert_eq!(s.get("a/x", None).unwrap(), Some(b("")));

    assert_eq!(s.list("a").unwrap(), ["b/", "x"]);
    assert_eq!(s.list("").unwrap(), ["a/"]);
    assert_eq!(s.list("a/b").unwrap(), ["c"], "nothing else is left of writing");
    s.delete("a/b").unwrap();
    assert_eq!(s.get("a/b/c", None).unwrap(), Some(b("hello")), "a directory with files is left alone");
    s.delete("a/b/c").unwrap();
    s.delete("a/b/c").unwrap();
    s.delete("a/b").unwrap();
    assert_eq!(s.list("a").unwrap(), ["x"]);
    assert!(s.put_new("a/b/c", b("again")).unwrap());
    backend::delete_tree(s, "a").unwrap();
    assert_eq!(s.list("").unwrap(), Vec::<String>::new());

    // Of many that create one name, one succeeds.
    let won: usize = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..8)
            .map(|i| scope.spawn(move || s.put_new("race", format!("{i}").into_bytes().into()).unwrap()))
            .collect();
        threads.into_iter().map(|t| usize::from(t.join().unwrap())).sum()
    });
    assert_eq!(won, 1);
    s.delete("race").unwrap();
}

#[test]
fn every_storage_keeps_the_law() {
    on_both(|s| {
        run(&s);
        run(&TimedStorage::new(Box::new(s), flott_core::time::ManualClock::at(0), 1));
    });
}
