//! What is for sale: listings, their VINs, and the pipeline that every record goes through, however it arrived.
//!
//! Never: a listing written past the pipeline, or a cached answer that outlives a write that was acknowledged.

pub mod issues;
pub mod listing;
pub mod pipeline;
pub mod service;
pub mod validate;
pub mod vin;
