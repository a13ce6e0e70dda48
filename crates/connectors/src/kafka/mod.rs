//! The `kafka` connector.

use flott_core::registry::Registry;

/// Makes the connectors of this module known.
pub fn register(registry: &mut Registry) {
    let _ = registry;
}
