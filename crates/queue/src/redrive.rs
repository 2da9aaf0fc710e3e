//! Owns bringing dead letters back to their queue. Does not own how they got there: the service counts receives.

use std::collections::HashSet;

use aws_sdk_sqs::types::Message;

use crate::{QueueError, Sqs, call::BATCH_ENTRIES_MAX, naming};

/// Hidden long enough to be sent and deleted, in seconds.
const MOVE_VISIBILITY_SECS: i32 = 60;

impl Sqs {
    /// Moves the kind's dead letters back to its queue: by the service's own move task, or one batch after the other
    /// where the server has none. The task runs on after this returns.
    ///
    /// # Errors
    /// Any [`QueueError`]. After a failed move some letters may be on both queues: a duplicate is harmless.
    pub async fn redrive(&self, kind: &str) -> Result<(), QueueError> {
        let name = naming::queue_name(&self.config.prefix, kind)?;
        let dead = naming::dead_letter_name(&self.config.prefix, kind)?;
        let dead_url = self.url(&dead).await?;
        let source = self.arn(&dead, &dead_url).await?;
        let url = self.url(&name).await?;
        let target = self.arn(&name, &url).await?;
        // One attempt is enough: simulated servers answer 500 for what they lack, and the move by hand always works.
        let once =
            aws_sdk_sqs::config::Config::builder().retry_config(aws_sdk_sqs::config::retry::RetryConfig::disabled());
        let call = self.client.start_message_move_task().source_arn(source).destination_arn(target);
        match call.customize().config_override(once).send().await {
            Ok(_) => Ok(()),
            Err(error) => {
                let error = QueueError::from_sdk(&dead, error);
                if matches!(error, QueueError::Throttled { .. } | QueueError::Missing { .. }) {
                    return Err(error);
                }
                tracing::info!(queue = dead, reason = crate::send::chain(&error), "no move task, moving by hand");
                self.move_by_hand((&dead, &dead_url), (&name, &url)).await
            }
        }
    }

    async fn move_by_hand(&self, from: (&str, &str), to: (&str, &str)) -> Result<(), QueueError> {
        let mut seen = HashSet::new();
        loop {
            let max = i32::try_from(BATCH_ENTRIES_MAX).unwrap_or(10);
            let call = self.client.receive_message().queue_url(from.1).max_number_of_messages(max);
            let call = call.wait_time_seconds(1).visibility_timeout(MOVE_VISIBILITY_SECS);
            let call =
                call.message_system_attribute_names(aws_sdk_sqs::types::MessageSystemAttributeName::MessageGroupId);
            let answer = call.send().await.map_err(|error| QueueError::from_sdk(from.0, error))?;
            let messages = answer.messages.unwrap_or_default();
            // A letter that dies again while we work must not make the loop endless.
            if messages.is_empty() || messages.iter().all(|m| !seen.insert(m.message_id.clone())) {
                return Ok(());
            }
            for message in messages {
                self.move_one(from, to, message).await?;
            }
        }
    }

    /// Sends before it deletes: a crash between the two doubles a message instead of losing it.
    async fn move_one(&self, from: (&str, &str), to: (&str, &str), message: Message) -> Result<(), QueueError> {
        let group = message.attributes.as_ref().and_then(|attributes| {
            attributes.get(&aws_sdk_sqs::types::MessageSystemAttributeName::MessageGroupId).cloned()
        });
        let call = self.client.send_message().queue_url(to.1).set_message_body(message.body);
        call.set_message_group_id(group).send().await.map_err(|error| QueueError::from_sdk(to.0, error))?;
        let call = self.client.delete_message().queue_url(from.1).set_receipt_handle(message.receipt_handle);
        call.send().await.map_err(|error| QueueError::from_sdk(from.0, error))?;
        Ok(())
    }
}
