//! A fact: something that is read from an image when it is first asked for, and kept. Who needs a new one writes its
//! type and how it is read; nothing else changes.

use super::Guest;
use crate::error::Result;
use std::any::{Any, TypeId};
use std::collections::HashMap;
use std::fmt;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

/// Something that a guest says about itself: `guest.fact::<Network>()`.
///
/// What could not be read is an error; only what was looked for and is not there is absent. A fact may ask for other
/// facts, not for itself.
pub trait Fact: Send + Sync + 'static {
    /// Reads it.
    ///
    /// # Errors
    /// When it is there but cannot be read.
    fn read(guest: &Guest) -> Result<Self>
    where
        Self: Sized;
}

/// Facts of different types, each read at most once.
#[derive(Default)]
pub struct Facts {
    known: Mutex<HashMap<TypeId, Arc<dyn Any + Send + Sync>>>,
}

/// Where one fact is kept.
type Cell<F> = OnceLock<Result<Arc<F>>>;

impl Facts {
    /// The fact of this type, from `read` the first time.
    ///
    /// # Errors
    /// Those of `read`, the same each time.
    pub fn get<F: Send + Sync + 'static>(&self, read: impl FnOnce() -> Result<F>) -> Result<Arc<F>> {
        let cell = {
            let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
            let cell = known.entry(TypeId::of::<F>()).or_insert_with(|| Arc::new(Cell::<F>::new()));
            Arc::clone(cell)
        };
        let cell = cell.downcast::<Cell<F>>().expect("a cell is kept under its own type");
        // The lock is let go: reading one fact may ask for another.
        cell.get_or_init(|| read().map(Arc::new)).clone()
    }

    /// The fact of this type if somebody asked for it already and it could be read.
    pub fn known<F: Send + Sync + 'static>(&self) -> Option<Arc<F>> {
        let cell = {
            let known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
            Arc::clone(known.get(&TypeId::of::<F>())?)
        };
        cell.downcast_ref::<Cell<F>>()?.get()?.clone().ok()
    }
}

impl fmt::Debug for Facts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Facts").finish_non_exhaustive()
    }
}
