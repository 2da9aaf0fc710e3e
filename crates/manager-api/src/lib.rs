//! The wire contract with the manager: every type of its API and of heartbeats, and the client for both.
//! Owns no rule about jobs (`domain`) and no storage; the manager serves exactly these types.

mod accounts;
mod anomalies;
mod assumptions;
mod audit;
mod audit_words;
mod client;
mod connections;
mod error;
mod errors;
mod find;
mod groups;
mod jobs;
mod limits;
mod operations;
mod others;
mod passwords;
mod pauses;
mod people;
mod quarantine;
mod queues;
mod schedules;
mod servants;
mod strict;

pub use accounts::{AccountDetail, ChangeList, ChangeQuery, Stream, StreamPage, StreamQuery};
pub use anomalies::{Anomaly, AnomalyPage, AnomalyQuery, AssignRequest};
pub use assumptions::{
    AssumeReply, AssumeRequest, Assumption, AssumptionDetail, AssumptionEvent, AssumptionPage, AssumptionQuery,
};
pub use audit::{
    Act, AuditEntry, AuditExport, AuditExportQuery, AuditPage, AuditQuery, AuditVerified, AuditVerifyQuery, ByWhom,
};
pub use client::{ClientError, ManagerClient};
pub use connections::{
    AuthoriseReply, AuthoriseRequest, Breaker, BreakerDetail, BreakerPage, BreakerQuery, Connection, ConnectionDetail,
    ConnectionEvent, ConnectionPage, ConnectionQuery, CreateConnection, ObjectsRequest, OverrideRequest,
};
pub use error::{ErrorBody, ErrorEnvelope};
pub use errors::{ErrorGroup, ErrorPage, ErrorQuery};
pub use find::{FindQuery, Found};
pub use groups::{
    AddJobs, AddedJob, CancelGroup, CreateGroup, FinishingJob, Group, GroupDetail, GroupPage, GroupProgress,
    GroupQuery, GroupReply, MemberCounts, OnboardingList, OnboardingQuery,
};
pub use jobs::{
    Attempt, CancelReply, EnqueueReply, EnqueueRequest, Job, JobDetail, JobPage, JobQuery, RetryReply, TimelineStep,
};
pub use limits::{
    Bounds, Budget, BudgetDetail, BudgetMinute, BudgetPage, BudgetQuery, Holder, HolderList, HolderQuery, Limit,
    LimitPage, LimitQuery, LimitRemoved, LimitRequest, MinuteQuery, ShareReply, ShareRequest,
};
pub use operations::{
    CancelOperation, CreateOperation, ItemPage, ItemQuery, Operation, OperationItem, OperationPage, OperationPreview,
    PreviewOperationQuery,
};
pub use others::{Account, AccountPage, Build, Failure, JobCount, PageQuery, Processes, Stats, WeightRequest};
pub use passwords::{ChangePassword, PasswordChanged};
pub use pauses::{Pause, PauseList, PauseQuery, PauseRequest, ResumeReply, Why};
pub use people::{
    Changed, CreateCredential, CreateToken, CreateUser, Credential, CredentialPage, Me, NewSecret, OneTimeCode,
    RoleRequest, Token, TokenPage, User, UserAct, UserPage, UserQuery,
};
pub use quarantine::{QuarantineDetail, QuarantinePage, QuarantineQuery, QuarantinedRecord};
pub use queues::{Percentiles, Queue, QueueList, RedriveRequest, Throughput, ThroughputPoint, ThroughputQuery};
pub use schedules::{
    BackfillReply, BackfillRequest, CreateSchedule, DeleteQuery, DeleteReply, PauseSchedule, PreviewQuery,
    PreviewedFire, RunReply, Schedule, ScheduleDetail, SchedulePage, SchedulePreview, ScheduleQuery, ScheduleSettings,
    UpdateSchedule,
};
pub use servants::{CurrentJob, Heartbeat, HeartbeatReply, Order, OrderRequest, Servant, ServantList, ServantQuery};
