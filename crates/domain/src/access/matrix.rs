//! Who may do what: one line for each action, one column for each role. This table is all there is; what a proof of
//! permission is, and how one is had, is in `granted` beside it.

use super::granted::actions;

actions! {
    // Looking. The last column: also by whoever looks at an account as its customer does.
    //                                         viewer support operator admin | assuming
    reads ReadJobs             "read_jobs"              yes     yes     yes      yes     yes;
    reads ReadGroups           "read_groups"            yes     yes     yes      yes     yes;
    reads ReadOperations       "read_operations"        yes     yes     yes      yes     no;
    reads ReadErrors           "read_errors"            yes     yes     yes      yes     yes;
    reads ReadQueues           "read_queues"            yes     yes     yes      yes     yes;
    reads ReadStats            "read_stats"             yes     yes     yes      yes     yes;
    reads ReadServants         "read_servants"          yes     yes     yes      yes     yes;
    reads ReadSchedules        "read_schedules"         yes     yes     yes      yes     yes;
    reads ReadLimits           "read_limits"            yes     yes     yes      yes     yes;
    reads ReadAccounts         "read_accounts"          yes     yes     yes      yes     yes;
    reads ReadAnomalies        "read_anomalies"         yes     yes     yes      yes     yes;
    reads ReadQuarantine       "read_quarantine"        yes     yes     yes      yes     no;
    // What jobs carry and keep: payloads and checkpoints, which may hold what customers wrote.
    reads ReadPayload          "read_payload"           no      no      yes      yes     no;
    reads ReadAudit            "read_audit"             no      yes     yes      yes     no;
    reads ReadAssumptions      "read_assumptions"       no      yes     yes      yes     no;
    reads ReadPeople           "read_people"            no      no      no       yes     no;

    // Jobs.
    acts  EnqueueJob           "enqueue_job"            no      no      yes      yes     no;
    acts  RepeatJob            "repeat_job"             no      no      yes      yes     no;
    acts  RetryJob             "retry_job"              no      no      yes      yes     no;
    acts  CancelJob            "cancel_job"             no      no      yes      yes     no;
    acts  RunJobNow            "run_job_now"            no      no      yes      yes     no;
    acts  CreateOperation      "create_operation"       no      no      yes      yes     no;
    acts  CancelOperation      "cancel_operation"       no      no      yes      yes     no;
    acts  CreateGroup          "create_group"           no      no      yes      yes     no;
    acts  AddToGroup           "add_to_group"           no      no      yes      yes     no;
    acts  SealGroup            "seal_group"             no      no      yes      yes     no;
    acts  CancelGroup          "cancel_group"           no      no      yes      yes     no;
    acts  Redrive              "redrive"                no      no      yes      yes     no;

    // What makes jobs and what holds them back.
    acts  CreateSchedule       "create_schedule"        no      no      yes      yes     no;
    acts  EditSchedule         "edit_schedule"          no      no      yes      yes     no;
    acts  DeleteSchedule       "delete_schedule"        no      no      yes      yes     no;
    acts  PauseSchedule        "pause_schedule"         no      no      yes      yes     no;
    acts  ResumeSchedule       "resume_schedule"        no      no      yes      yes     no;
    acts  RunSchedule          "run_schedule"           no      no      yes      yes     no;
    acts  BackfillSchedule     "backfill_schedule"      no      no      yes      yes     no;
    acts  Pause                "pause"                  no      no      yes      yes     no;
    acts  Resume               "resume"                 no      no      yes      yes     no;
    acts  SetLimit             "set_limit"              no      no      yes      yes     no;
    acts  RemoveLimit          "remove_limit"           no      no      yes      yes     no;
    acts  SetShare             "set_share"              no      no      yes      yes     no;
    acts  RemoveShare          "remove_share"           no      no      yes      yes     no;
    acts  SetWeight            "set_weight"             no      no      yes      yes     no;
    acts  OpenBreaker          "open_breaker"           no      no      yes      yes     no;
    acts  CloseBreaker         "close_breaker"          no      no      yes      yes     no;
    acts  ClearBreaker         "clear_breaker"          no      no      yes      yes     no;

    // Servants. What a servant itself may is in `granted`: to say how it is, and nothing else.
    acts  OrderServant         "order_servant"          no      no      yes      yes     no;
    acts  Heartbeat            "heartbeat"              no      no      no       no      no;

    // Customers.
    acts  AuthoriseConnection  "authorise_connection"   no      yes     yes      yes     no;
    acts  SyncConnection       "sync_connection"        no      yes     yes      yes     no;
    acts  Reauthorised         "reauthorised"           no      no      yes      yes     no;
    acts  ParkConnection       "park_connection"        no      no      yes      yes     no;
    acts  DisableConnection    "disable_connection"     no      no      yes      yes     no;
    acts  EnableConnection     "enable_connection"      no      no      yes      yes     no;
    acts  ChooseObjects        "choose_objects"         no      no      yes      yes     no;
    acts  CreateAccount        "create_account"         no      no      no       yes     no;
    acts  CreateConnection     "create_connection"      no      no      no       yes     no;
    acts  AssumeAccount        "assume_account"         no      yes     no       yes     no;
    acts  EndAssumption        "end_assumption"         no      yes     no       yes     no;
    acts  AcknowledgeAnomaly   "acknowledge_anomaly"    no      yes     yes      yes     no;
    acts  ResolveAnomaly       "resolve_anomaly"        no      no      yes      yes     no;
    acts  MuteAnomaly          "mute_anomaly"           no      no      yes      yes     no;
    acts  AssignAnomaly        "assign_anomaly"         no      yes     yes      yes     no;
    acts  RetryRecord          "retry_record"           no      yes     yes      yes     no;
    acts  DismissRecord        "dismiss_record"         no      no      yes      yes     no;

    // People, their tokens, and servants' credentials. Sessions and passwords are everybody's own.
    acts  ManagePeople         "manage_people"          no      no      no       yes     no;
    acts  SignIn               "sign_in"                yes     yes     yes      yes     no;
    acts  SignOut              "sign_out"               yes     yes     yes      yes     no;
    acts  ChangePassword       "change_password"        yes     yes     yes      yes     no;

    // What is done with the ledger, the keys and the queues themselves, by whoever has hands on them.
    acts  Migrate              "migrate"                no      no      no       yes     no;
    acts  RotateKeys           "rotate_keys"            no      no      no       yes     no;
    acts  EnsureQueues         "ensure_queues"          no      no      no       yes     no;
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Role;

    #[test]
    fn the_documentation_shows_this_table() {
        let page = include_str!("../../../../docs/roles.md");
        let word = |may| if may { "yes" } else { "no" };
        let line = |action: &Action| {
            let roles = Role::ALL.map(|role| word(action.is_for(role))).join(" | ");
            format!("| {} | {roles} | {} |", action.as_str(), word(action.is_for_assuming()))
        };
        let shown: Vec<&str> = page.lines().filter(|line| line.starts_with("| ")).skip(2).collect();
        assert_eq!(shown, Action::ALL.iter().map(line).collect::<Vec<_>>());
    }
}
