//! Owns bringing dead letters back to their queue. Does not own how they got there: the service counts receives.

use std::collections::HashSet;

use aws_sdk_sqs::{
    config::{Config, http::HttpResponse, retry::RetryConfig},
    error::{ProvideErrorMetadata as _, SdkError},
    operation::start_message_move_task::StartMessageMoveTaskError,
    types::{Message, MessageSystemAttributeName},
};

use crate::{QueueError, Sqs, call::BATCH_ENTRIES_MAX, naming};

/// Hidden long enough to be sent and deleted, in seconds.
const MOVE_VISIBILITY_SECS: i32 = 60;

/// How dead letters are brought back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Redriven {
    /// The service's own task has begun; it goes on by itself.
    Begun,
    /// The service has no such task: so many letters were moved, one after the other.
    Moved(usize),
}

impl Sqs {
    /// Moves the kind's dead letters back to its queue: by the service's own move task, or one batch after the other
    /// on a server that has none.
    ///
    /// # Errors
    /// Any [`QueueError`]. After a failed move some letters may be on both queues: a duplicate is harmless.
    pub async fn redrive(&self, kind: &str) -> Result<Redriven, QueueError> {
        let name = naming::queue_name(&self.config.prefix, kind)?;
        let dead = naming::dead_letter_name(&self.config.prefix, kind)?;
        let dead_url = self.url(&dead).await?;
        let source = self.arn(&dead, &dead_url).await?;
        let url = self.url(&name).await?;
        let target = self.arn(&name, &url).await?;
        // One attempt: a server that lacks the task answers 500 each time, and whoever ordered the move is watching.
        let once = Config::builder().retry_config(RetryConfig::disabled());
        let call = self.client.start_message_move_task().source_arn(source).destination_arn(target);
        match call.customize().config_override(once).send().await {
            Ok(_) => Ok(Redriven::Begun),
            Err(error) if has_no_task(&error) => {
                tracing::info!(queue = dead, "this server has no move task; moving by hand");
                self.move_by_hand((&dead, &dead_url), (&name, &url)).await.map(Redriven::Moved)
            }
            Err(error) => Err(QueueError::from_sdk(&dead, error)),
        }
    }

    async fn move_by_hand(&self, from: (&str, &str), to: (&str, &str)) -> Result<usize, QueueError> {
        let mut seen = HashSet::new();
        let mut moved = 0;
        loop {
            let max = i32::try_from(BATCH_ENTRIES_MAX).unwrap_or(10);
            let call = self.client.receive_message().queue_url(from.1).max_number_of_messages(max);
            let call = call.wait_time_seconds(1).visibility_timeout(MOVE_VISIBILITY_SECS);
            let call = call.message_system_attribute_names(MessageSystemAttributeName::MessageGroupId);
            let answer = call.send().await.map_err(|error| QueueError::from_sdk(from.0, error))?;
            let messages = answer.messages.unwrap_or_default();
            // A letter that dies again while we work must not make the loop endless.
            if messages.is_empty() || messages.iter().all(|m| !seen.insert(m.message_id.clone())) {
                return Ok(moved);
            }
            for message in messages {
                self.move_one(from, to, message).await?;
                moved += 1;
            }
        }
    }

    /// Sends before it deletes: a crash between the two doubles a message instead of losing it.
    async fn move_one(&self, from: (&str, &str), to: (&str, &str), message: Message) -> Result<(), QueueError> {
        let attributes = message.attributes.as_ref();
        let group = attributes.and_then(|found| found.get(&MessageSystemAttributeName::MessageGroupId).cloned());
        let call = self.client.send_message().queue_url(to.1).set_message_body(message.body);
        call.set_message_group_id(group).send().await.map_err(|error| QueueError::from_sdk(to.0, error))?;
        let call = self.client.delete_message().queue_url(from.1).set_receipt_handle(message.receipt_handle);
        call.send().await.map_err(|error| QueueError::from_sdk(from.0, error))?;
        Ok(())
    }
}

/// Whether the answer means that this server has no move task at all. Amazon's refusals and failures carry the name of
/// an error (`UnsupportedOperation` and `InternalError` among them) and are the caller's to see. What lacks the action
/// says so, or breaks without naming an error, as moto does with a page of HTML.
fn has_no_task(error: &SdkError<StartMessageMoveTaskError, HttpResponse>) -> bool {
    let code = error.code().unwrap_or_default();
    let Some(status) = error.raw_response().map(|answer| answer.status().as_u16()) else { return false };
    match code {
        "InvalidAction" | "UnknownOperation" | "UnknownOperationException" => true,
        "" => matches!(status, 404 | 500 | 501),
        _ => status == 501,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use aws_sdk_sqs::error::ErrorMetadata;

    fn answer(status: u16, code: &str) -> SdkError<StartMessageMoveTaskError, HttpResponse> {
        let mut metadata = ErrorMetadata::builder();
        if !code.is_empty() {
            metadata = metadata.code(code);
        }
        let error = StartMessageMoveTaskError::generic(metadata.build());
        SdkError::service_error(error, HttpResponse::new(status.try_into().unwrap(), "".into()))
    }

    #[test]
    fn only_a_server_without_the_task_is_worked_around() {
        for (status, code) in [(400, "InvalidAction"), (404, ""), (500, ""), (501, "InternalFailure"), (501, "")] {
            assert!(has_no_task(&answer(status, code)), "{status} {code}");
        }
        let theirs = [
            (500, "InternalError"),
            (503, "ServiceUnavailable"),
            (503, ""),
            (400, "RequestThrottled"),
            (400, "UnsupportedOperation"),
            (400, "AWS.SimpleQueueService.UnsupportedOperation"),
            (404, "ResourceNotFoundException"),
            (400, "InvalidParameterValue"),
            (403, "AccessDenied"),
            (403, ""),
        ];
        for (status, code) in theirs {
            assert!(!has_no_task(&answer(status, code)), "{status} {code}");
        }
        assert!(!has_no_task(&SdkError::timeout_error("no answer")));
    }
}
