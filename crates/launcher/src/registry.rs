//! Fills the registry: the one place that knows which connectors there are.

use std::sync::Arc;

use flott_core::error::Result;
use flott_core::registry::Registry;
use flott_core::source::SourceTransformFactory;
use flott_plan::spec::SourceTransformSpec;

/// Every connector of this build.
pub fn registry() -> Registry {
    let mut registry = Registry::default();
    flott_connectors::register_all(&mut registry);
    registry
}

/// What happens to the rows of a SQL source first: computed columns, watermarks.
pub fn source_transform(spec: &SourceTransformSpec) -> Result<Arc<dyn SourceTransformFactory>> {
    flott_operators::source_transform(spec)
}
