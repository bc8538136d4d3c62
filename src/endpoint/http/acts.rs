//! What is asked for without a body and takes its time: who asks over the network waits, the maintenance socket has a thread
//! for it.

use std::sync::Arc;

use super::api::{Api, no_intake};
use super::error::ApiError;
use super::ingest::Door;
use super::reply::Reply;
use super::steering::Steering;

/// Something that is to be done.
#[derive(Debug)]
pub enum Act {
    /// Map what is in quarantine at this door.
    Remap(Arc<Door>),
    /// Do something with a subscriber.
    Steer(Steering),
}

impl Act {
    /// Does it. Dropping the future forgets the answer, not what was begun.
    pub async fn run(self, api: &Api) -> Result<Reply, ApiError> {
        match self {
            Self::Remap(door) => api.ingest.as_ref().ok_or_else(no_intake)?.remap(&door).await,
            Self::Steer(steering) => steering.run(api).await,
        }
    }
}
