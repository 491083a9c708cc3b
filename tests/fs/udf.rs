//! UDF.
