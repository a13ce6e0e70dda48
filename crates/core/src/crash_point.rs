//! Named points at which the crash harness kills a process. Nothing happens at them unless a hook is installed,
//! which only the binary does and only when `test.pause-at` is set.

use std::sync::OnceLock;

type Hook = Box<dyn Fn(&str) + Send + Sync>;

static HOOK: OnceLock<Hook> = OnceLock::new();

/// Installs the hook; the first one stays.
pub fn install(hook: impl Fn(&str) + Send + Sync + 'static) {
    let _ = HOOK.set(Box::new(hook));
}

/// Says that execution reached `point`.
pub fn reach(point: &str) {
    if let Some(hook) = HOOK.get() {
        hook(point);
    }
}
