//! EROFS.
