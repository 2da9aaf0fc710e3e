//! Owns the shape of an SQS error answer in the AWS JSON 1.0 protocol. Does not own when one is given.

use axum::{
    body::Body,
    http::{Response, StatusCode, header},
};
use serde_json::json;

/// An error answer. `code` is the modelled name; `query_code` is the older name that SDKs read from a header.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct SqsError {
    pub(super) status: u16,
    pub(super) code: &'static str,
    pub(super) query_code: &'static str,
    pub(super) message: String,
}

impl SqsError {
    fn new(status: u16, code: &'static str, query_code: &'static str, message: impl Into<String>) -> Self {
        Self { status, code, query_code, message: message.into() }
    }

    pub(super) fn queue_does_not_exist() -> Self {
        let message = "The specified queue does not exist.";
        Self::new(400, "QueueDoesNotExist", "AWS.SimpleQueueService.NonExistentQueue", message)
    }

    pub(super) fn queue_name_exists(attribute: &str) -> Self {
        let message =
            format!("A queue already exists with the same name and a different value for attribute {attribute}");
        Self::new(400, "QueueNameExists", "QueueAlreadyExists", message)
    }

    pub(super) fn invalid_parameter(message: impl Into<String>) -> Self {
        Self::new(400, "InvalidParameterValueException", "InvalidParameterValue", message)
    }

    pub(super) fn missing_parameter(name: &str) -> Self {
        let message = format!("The request must contain the parameter {name}.");
        Self::new(400, "MissingRequiredParameterException", "MissingParameter", message)
    }

    pub(super) fn invalid_attribute_name(name: &str) -> Self {
        Self::new(400, "InvalidAttributeName", "InvalidAttributeName", format!("Unknown Attribute {name}."))
    }

    pub(super) fn too_many_entries(sent: usize) -> Self {
        let message = format!("Maximum number of entries per request are 10. You have sent {sent}.");
        Self::new(400, "TooManyEntriesInBatchRequest", "AWS.SimpleQueueService.TooManyEntriesInBatchRequest", message)
    }

    pub(super) fn empty_batch() -> Self {
        let message = "There should be at least one entry in the request.";
        Self::new(400, "EmptyBatchRequest", "AWS.SimpleQueueService.EmptyBatchRequest", message)
    }

    pub(super) fn ids_not_distinct(id: &str) -> Self {
        let message = format!("Id {id} repeated.");
        Self::new(400, "BatchEntryIdsNotDistinct", "AWS.SimpleQueueService.BatchEntryIdsNotDistinct", message)
    }

    pub(super) fn invalid_entry_id() -> Self {
        let message = "A batch entry id can only contain alphanumeric characters, hyphens and underscores. \
                       It can be at most 80 letters long.";
        Self::new(400, "InvalidBatchEntryId", "AWS.SimpleQueueService.InvalidBatchEntryId", message)
    }

    pub(super) fn batch_too_long(bytes: usize) -> Self {
        let message = format!("Batch requests cannot be longer than 1048576 bytes. You have sent {bytes} bytes.");
        Self::new(400, "BatchRequestTooLong", "AWS.SimpleQueueService.BatchRequestTooLong", message)
    }

    pub(super) fn invalid_contents() -> Self {
        let message = "Invalid characters found. Valid unicode characters are #x9 | #xA | #xD | #x20 to #xD7FF | \
                       #xE000 to #xFFFD | #x10000 to #x10FFFF.";
        Self::new(400, "InvalidMessageContents", "InvalidMessageContents", message)
    }

    pub(super) fn receipt_invalid(receipt: &str) -> Self {
        let message = format!("The input receipt handle \"{receipt}\" is not a valid receipt handle.");
        Self::new(400, "ReceiptHandleIsInvalid", "ReceiptHandleIsInvalid", message)
    }

    pub(super) fn not_in_flight() -> Self {
        let message = "The message is not in flight.";
        Self::new(400, "MessageNotInflight", "AWS.SimpleQueueService.MessageNotInflight", message)
    }

    pub(super) fn over_limit() -> Self {
        let message = "Too many messages in flight: the limit of a queue is 120000.";
        Self::new(403, "OverLimit", "OverLimit", message)
    }

    pub(super) fn throttled() -> Self {
        Self::new(403, "RequestThrottled", "RequestThrottled", "Request was throttled.")
    }

    pub(super) fn internal() -> Self {
        Self::new(500, "InternalError", "InternalError", "We encountered an internal error. Please try again.")
    }

    pub(super) fn resource_not_found() -> Self {
        let message = "The resource that you specified for the SourceArn parameter doesn't exist.";
        Self::new(404, "ResourceNotFoundException", "ResourceNotFoundException", message)
    }

    pub(super) fn unsupported(message: impl Into<String>) -> Self {
        Self::new(400, "UnsupportedOperation", "AWS.SimpleQueueService.UnsupportedOperation", message)
    }

    pub(super) fn unknown_action(action: &str) -> Self {
        let message = format!("The action {action:?} is not valid for this endpoint.");
        Self::new(400, "UnknownOperationException", "InvalidAction", message)
    }

    /// Whether the caller is to blame, as batch entries and the older header say it.
    pub(super) fn is_senders(&self) -> bool {
        self.status < 500
    }

    pub(super) fn into_response(self) -> Response<Body> {
        let blame = if self.is_senders() { "Sender" } else { "Receiver" };
        let body = json!({ "__type": format!("com.amazonaws.sqs#{}", self.code), "message": self.message });
        let mut response = Response::new(Body::from(body.to_string()));
        *response.status_mut() = StatusCode::from_u16(self.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        let headers = response.headers_mut();
        headers.insert(header::CONTENT_TYPE, header::HeaderValue::from_static(super::CONTENT_TYPE));
        if let Ok(value) = header::HeaderValue::from_str(&format!("{};{blame}", self.query_code)) {
            headers.insert("x-amzn-query-error", value);
        }
        response
    }
}
