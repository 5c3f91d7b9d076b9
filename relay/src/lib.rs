//! The relay: it watches what CI runs in a Kubernetes cluster, and tells spanhook what has ended.
//!
//! An object goes one way through it:
//!
//! 1. [`watch`] reads lists and changes of each [`kind`],
//! 2. [`ledger`] knows by [`finality`] which of them are due, and puts Events to their Pods,
//! 3. [`prune`] takes out everything that is not named,
//! 4. [`batch`] puts the [`item`]s together,
//! 5. [`deliver`] has them sent by [`post`], signed with [`keys`], until they are taken.
//!
//! [`pass`] takes deliveries of others on the way, [`serve`] answers probes.

pub mod batch;
pub mod deliver;
pub mod finality;
pub mod item;
pub mod keys;
pub mod kind;
pub mod ledger;
pub mod metrics;
pub mod options;
pub mod pass;
pub mod post;
pub mod prune;
pub mod relay;
pub mod serve;
pub mod watch;
