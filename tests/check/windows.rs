//! Rules of the group `windows`.
