//! Flink's sums, contradictions, small processes and machines.

use super::*;

const MB: u64 = 1 << 20;

fn config(pairs: &[(&str, &str)]) -> Configuration {
    let mut c = Configuration::new();
    for (key, value) in pairs {
        c.set(&format!("taskmanager.memory.{key}"), value).expect("an option");
    }
    c
}

fn machine(bytes: u64) -> Machine {
    Machine { process_bytes: bytes, reason: "a test".to_owned() }
}

fn plan(pairs: &[(&str, &str)]) -> Result<MemoryPlan> {
    MemoryPlan::of(&config(pairs), &machine(8 << 30))
}

fn limits(plan: &MemoryPlan) -> [u64; 4] {
    MemoryUse::ALL.map(|of| plan.limit_bytes(of) / MB)
}

#[test]
fn the_sizes_of_flinks_own_configuration() {
    // Flink's log for process.size 1728m: framework 128, task heap 384, managed 512, off-heap 128, network 128, reserves 448.
    let p = plan(&[("process.size", "1728m")]).expect("Flink's default");
    let flink: Vec<u64> = p.flink.iter().map(|p| p.bytes / MB).collect();
    assert_eq!(flink, [128, 384, 512, 128, 0, 128]);
    assert_eq!(p.reserves.map(|p| p.bytes / MB), [256, 192]);
    assert_eq!(limits(&p), [64, 128, 64, 896], "fetch, network, sink, state");
    assert_eq!((p.process_bytes(), p.is_set), (1728 * MB, true));
    assert_eq!(
        p.to_string(),
        "1728 mb (taskmanager.memory.process.size = 1728 mb), fetch 64 mb, network 128 mb, sink 64 mb, state 896 mb, \
         reserve 576 mb"
    );
    let same = plan(&[("flink.size", "1280m")]).expect("the same total");
    assert_eq!((limits(&same), same.process_bytes()), (limits(&p), 1728 * MB));
}

#[test]
fn parts_that_do_not_fit_are_refused_with_the_sum_a_part_a_line() {
    let e = plan(&[("process.size", "1728m"), ("task.off-heap.size", "1g")]).expect_err("more than fits");
    assert_eq!((e.code(), e.kind()), ("config.memory", flott_core::ErrorKind::User));
    assert_eq!(
        e.message(),
        "the memory sizes contradict each other: the parts of `taskmanager.memory.flink.size` add up to 1920 mb, which is \
         more than 1280 mb"
    );
    let lines: Vec<String> = e
        .detail_text()
        .expect("the sum")
        .lines()
        .skip(1)
        .map(|l| l.split_whitespace().collect::<Vec<_>>().join(" "))
        .collect();
    assert_eq!(
        lines,
        [
            "taskmanager.memory.framework.heap.size 128 mb default",
            "taskmanager.memory.managed.size 512 mb derived",
            "taskmanager.memory.framework.off-heap.size 128 mb default",
            "taskmanager.memory.task.off-heap.size 1 gb set",
            "taskmanager.memory.network.* 128 mb derived",
            "sum 1920 mb",
            "taskmanager.memory.flink.size 1280 mb to hold them",
        ]
    );
    let hint = e.hint_text().expect("a remedy");
    assert!(hint.contains("process.size` by more than 640 mb") && hint.contains("task.off-heap.size"), "{hint}");
    for (pairs, word) in [
        (&[("process.size", "1g"), ("jvm-metaspace.size", "900m"), ("jvm-overhead.min", "300m")][..], "process.size"),
        (&[("process.size", "1g"), ("flink.size", "1g")], "process.size"),
        (&[("process.size", "8g"), ("flink.size", "1g")], "overhead"),
        (&[("flink.size", "2g"), ("task.heap.size", "100m"), ("network.max", "128m")], "network"),
        (&[("flink.size", "1g"), ("task.heap.size", "900m")], "flink.size"),
        (&[("network.min", "2g"), ("network.max", "1g")], "network.min"),
        (&[("process.size", "2g"), ("managed.size", "1500m")], "managed.size"),
    ] {
        let text = plan(pairs).map_or_else(|e| e.to_string(), |p| format!("{p} was accepted"));
        assert!(text.contains("contradict") && text.contains(word), "{pairs:?}: {text}");
    }
}

#[test]
fn totals_follow_from_task_heap_and_managed_memory() {
    let p = plan(&[("task.heap.size", "512m"), ("managed.size", "256m")]).expect("Flink's third way");
    // 128 + 512 + 256 + 128 + 0 = 1024; a tenth of the total is network, a tenth of the process is overhead.
    assert_eq!(p.flink[5].bytes / MB, 113);
    assert_eq!(p.limit_bytes(MemoryUse::State), 768 * MB);
    assert_eq!(p.reserves.map(|r| r.bytes / MB), [256, 192]);
    let network = plan(&[("process.size", "4g"), ("network.min", "300m"), ("network.max", "300m")]).expect("fixed");
    assert_eq!(network.limit_bytes(MemoryUse::Network), 300 * MB);
}

#[test]
fn a_small_process_needs_no_list_of_sizes() {
    let p = plan(&[("process.size", "256m")]).expect("defaults shrink in proportion");
    assert_eq!(p.process_bytes(), 256 * MB);
    assert!(MemoryUse::ALL.iter().all(|of| p.limit_bytes(*of) > 4 * MB), "{p}");
    let fetch = plan(&[("process.size", "512m"), ("task.off-heap.size", "100m")]).expect("fits");
    assert!(fetch.limit_bytes(MemoryUse::Fetch) >= 60 * MB, "{fetch}");
    assert!(plan(&[("process.size", "256m"), ("jvm-metaspace.size", "256m")]).is_err());
}

#[test]
fn without_a_size_the_machine_decides() {
    let p = plan(&[]).expect("8 gb");
    assert_eq!((p.process_bytes(), p.is_set), (8 << 30, false));
    assert!(p.to_string().starts_with("8 gb (a test), fetch "), "{p}");
    assert!(p.limit_bytes(MemoryUse::Fetch) > 256 * MB, "the defaults grow with the machine: {p}");
    let one = plan(&[("task.off-heap.size", "256m")]).expect("8 gb");
    assert_eq!(one.limit_bytes(MemoryUse::Fetch), (256 + 128) / 2 * MB, "but not beside what was set");
    let cgroup = "4:memory:/kubepods/pod7\n0::/\n";
    let file = |limit: &'static str| {
        move |path: &str| {
            let text = match path {
                "/proc/meminfo" => "MemTotal:       16777216 kB\nMemFree: 1 kB\n",
                "/proc/self/cgroup" => cgroup,
                "/sys/fs/cgroup/memory/memory.limit_in_bytes" => "9223372036854771712\n",
                "/sys/fs/cgroup/memory/kubepods/memory.limit_in_bytes" => "4294967296\n",
                "/sys/fs/cgroup/memory/kubepods/pod7/memory.limit_in_bytes" => limit,
                _ => return None,
            };
            Some(text.to_owned())
        }
    };
    let contained = Machine::read(&file("2147483648\n"));
    assert_eq!(contained, Machine { process_bytes: 2 << 30, reason: "the container's limit".to_owned() });
    assert_eq!(Machine::read(&file("9223372036854771712\n")).process_bytes, 4 << 30, "that of a group around it");
    let bare = Machine::read(&|path| (path == "/proc/meminfo").then(|| "MemTotal: 16777216 kB\n".to_owned()));
    assert_eq!(bare, Machine { process_bytes: 8 << 30, reason: "half of the machine's 16 gb".to_owned() });
    let two = |path: &str| match path {
        "/proc/self/cgroup" => Some("0::/\n".to_owned()),
        "/sys/fs/cgroup/memory.max" => Some("1073741824\n".to_owned()),
        _ => None,
    };
    assert_eq!(Machine::read(&two).process_bytes, 1 << 30);
    assert!(Machine::read(&|_| None).reason.contains("does not say"));
}
