//! Owns the order of a run: database, schema, simulated servers, daemons, demo customer, end.

use crate::{
    access::{self, Access},
    arguments::{Arguments, Queue},
    children::{Children, Spec},
    compile::{self, Programs},
    customer,
    guardian::Guardian,
    home::Home,
    onboarding,
    summary::Summary,
};
use anyhow::Context;
use domain::{Clock, JobId, JobState};
use local_postgres::{Durability, LocalPostgres, Options};
use std::{
    ffi::OsString,
    net::{Ipv4Addr, SocketAddr},
    process::ExitCode,
    sync::Arc,
    time::Duration,
};
use store::Store;
use tokio::{
    signal::unix::{SignalKind, signal},
    sync::mpsc,
};
use tokio_util::sync::CancellationToken;
use vault::{ExposeSecret as _, SecretString};

const DATABASE: &str = "servant";
const CONNECTIONS_MAX: u32 = 100;
const SHARED_BUFFERS_MB: u32 = 128;
/// How long the manager may take until it answers.
const READY_MAX: Duration = Duration::from_secs(60);
const LOOK_EVERY: Duration = Duration::from_millis(100);
/// Every child's time to finish what it has in hand.
const DRAIN_SECS: &str = "10";

/// Runs everything until it is asked to stop, or until the first sync is complete.
pub(crate) async fn run(arguments: Arguments) -> anyhow::Result<ExitCode> {
    let arguments = arguments.checked()?;
    let kill = CancellationToken::new();
    let stop = trap_signals(kill.clone())?;
    let mut home = Home::open(arguments.home.as_deref(), arguments.exit_when_synced, arguments.fresh)?;
    eprintln!("building what is not up to date ...");
    let programs = tokio::select! {
        programs = compile::build(&home.root) => programs?,
        () = stop.cancelled() => return Ok(ExitCode::FAILURE),
    };
    let has_customer = programs.kinds.iter().any(|kind| kind == customer::KIND);
    anyhow::ensure!(
        has_customer || !(arguments.exit_when_synced || arguments.org_data.is_some()),
        "there is no servant {0} in crates/servants/src/bin, so nothing can be onboarded; add it, or run without \
         --exit-when-synced and --org-data",
        customer::KIND
    );
    let (postgres, database_url) = database(&home).await?;
    let (failed, mut failures) = mpsc::unbounded_channel();
    let guardian = Arc::new(Guardian::start(&home.state())?);
    let group = || Children::new(guardian.clone(), kill.clone(), failed.clone());
    let mut stack =
        Stack { servers: group(), manager: group(), workers: group(), home: &home, programs, arguments, has_customer };

    let outcome = tokio::select! {
        outcome = stack.live(&database_url, &stop) => outcome,
        Some(failure) = failures.recv() => Err(failure),
        () = stop.cancelled() => Ok(if stack.arguments.exit_when_synced { ExitCode::FAILURE } else { ExitCode::SUCCESS }),
    };
    eprintln!("stopping ...");
    stack.workers.stop().await;
    stack.manager.stop().await;
    stack.servers.stop().await;
    drop(stack);
    if let Some(postgres) = postgres {
        let data = postgres.data_dir().to_owned();
        postgres.stop().await;
        if home.is_temporary() {
            // Where it is not within the temporary directory it would outlive it.
            let _ = std::fs::remove_dir_all(data);
        }
    }
    if !matches!(outcome, Ok(code) if code == ExitCode::SUCCESS) {
        home.keep();
    }
    outcome
}

/// The first SIGINT or SIGTERM is an order to stop, the next one to stop at once.
fn trap_signals(kill: CancellationToken) -> anyhow::Result<CancellationToken> {
    let stop = CancellationToken::new();
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    let given = stop.clone();
    tokio::spawn(async move {
        loop {
            tokio::select! {
                _ = terminate.recv() => {}
                _ = interrupt.recv() => {}
            }
            if given.is_cancelled() {
                kill.cancel();
            }
            given.cancel();
        }
    });
    Ok(stop)
}

/// The database of `DATABASE_URL`, or one of our own.
async fn database(home: &Home) -> anyhow::Result<(Option<LocalPostgres>, String)> {
    if let Some(url) = std::env::var("DATABASE_URL").ok().filter(|url| !url.is_empty()) {
        eprintln!("using the database of DATABASE_URL");
        return Ok((None, url));
    }
    let postgres = LocalPostgres::start(Options {
        data_dir: home.state().join("postgres"),
        durability: Durability::Full,
        max_connections: CONNECTIONS_MAX,
        shared_buffers_mb: SHARED_BUFFERS_MB,
    })
    .await?;
    home.remember_data(postgres.data_dir())?;
    postgres.create_database(DATABASE).await?;
    let url = postgres.url(DATABASE);
    Ok((Some(postgres), url))
}

struct Stack<'a> {
    servers: Children,
    manager: Children,
    workers: Children,
    home: &'a Home,
    programs: Programs,
    arguments: Arguments,
    /// Whether there is a servant that can onboard the demo customer.
    has_customer: bool,
}

impl Stack<'_> {
    async fn live(&mut self, database_url: &str, stop: &CancellationToken) -> anyhow::Result<ExitCode> {
        let mut environment = vec![("DATABASE_URL".to_owned(), database_url.to_owned())];
        self.spec("servantctl", &["migrate"], &environment).run().await.context("the schema")?;
        let store = Store::connect(database_url, 2, Clock::system()).await?;
        let access = Access::make(&store, self.home).await.context("who may ask the manager")?;
        let keys = self.home.state().join("master.keys");
        if !keys.exists() {
            let mut generate = self.spec("servantctl", &["keys", "generate", "--keys-file"], &environment);
            generate.arguments.push(keys.into());
            generate.run().await.context("the master key")?;
        }
        let salesforce = if self.has_customer {
            self.home.write_secret("secrets.toml", &customer::secrets())?;
            Some(self.start_salesforce().await?)
        } else {
            None
        };
        self.add_settings(&mut environment).await?;
        if self.arguments.queue == Queue::Sqs {
            let mut ensure = self.spec("servantctl", &["queues", "ensure", "--jobs-file"], &environment);
            ensure.arguments.push(self.home.config("jobs.toml").into());
            ensure.run().await.context("the queues")?;
        }
        let ui = self.start_manager(&environment, salesforce.as_deref()).await?;
        let first = match &salesforce {
            Some(login_url) => {
                let of = (self.arguments.exit_when_synced, self.arguments.org_data.is_none());
                customer::onboard(&store, login_url, (&*ui, access.token()), of)
                    .await
                    .context("the demo customer cannot be connected")?
            }
            None => None,
        };
        // Behind the consent: what an earlier run granted is good no more, and would only be refused.
        let credentials =
            access::credentials(&store, &self.programs.kinds).await.context("the servants' credentials")?;
        self.start_workers(&environment, &credentials)?;
        let code = self.accompany(&store, first.zip(salesforce.as_deref()), (&*ui, &access), stop).await;
        store.close().await;
        code
    }

    async fn accompany(
        &self,
        store: &Store,
        first: Option<(JobId, &str)>,
        (ui, access): (&str, &Access),
        stop: &CancellationToken,
    ) -> anyhow::Result<ExitCode> {
        let (sign_in, token_file) = (access.sign_in_url(ui), &access.token_file);
        eprintln!(
            "\n  Servant runs: {ui}\n  sign in, once: {sign_in}\n  for servantctl elsewhere: SERVANT_TOKEN_FILE={}\n  \
             logs: {}\n  Ctrl-C stops it\n",
            token_file.display(),
            self.home.logs().display()
        );
        if self.arguments.json && !self.arguments.exit_when_synced {
            let line =
                serde_json::json!({ "ui": ui, "sign_in": sign_in, "token_file": token_file, "logs": self.home.logs() });
            println!("{line}");
        }
        if let Some((first, login_url)) = first {
            let onboarded = onboarding::follow(store, first).await?;
            if self.arguments.exit_when_synced {
                let summary = Summary::read(store, &onboarded).await?;
                println!("{}", serde_json::to_string(&summary)?);
                return Ok(if summary.is_success() { ExitCode::SUCCESS } else { ExitCode::FAILURE });
            }
            match onboarded.state() {
                JobState::Succeeded => {
                    eprintln!("the customer is onboarded; its records follow every minute");
                    if self.arguments.is_demo() {
                        customer::damage(store, login_url, first).await.context("the record to look at")?;
                        eprintln!(
                            "{} records change in a second, and the amount of one is no number: in half a minute look at \
                             {ui}/anomalies, or say `cargo run -p servantctl -- anomalies list`",
                            self.arguments.mutations_per_s()
                        );
                    }
                }
                state => eprintln!("the onboarding is {state}; {ui} says why"),
            }
        } else if self.has_customer {
            eprintln!("the demo customer of an earlier run goes on; `cargo up -- --fresh` begins anew");
        } else {
            eprintln!(
                "no servant {} here, so no demo customer; `servantctl enqueue` gives the servants work",
                customer::KIND
            );
        }
        stop.cancelled().await;
        Ok(ExitCode::SUCCESS)
    }

    /// What all daemons have in common.
    async fn add_settings(&mut self, environment: &mut Vec<(String, String)>) -> anyhow::Result<()> {
        let jobs = self.home.config("jobs.toml");
        let mut set = |key: &str, value: &str| environment.push((key.to_owned(), value.to_owned()));
        set("SERVANT_JOBS_FILE", &jobs.to_string_lossy());
        if self.has_customer {
            // The demo customer's Salesforce is on this machine.
            set("SERVANT_SALESFORCE_HOSTS", "development");
        }
        if std::env::var_os("SERVANT_PROCESS__DRAIN_SECS").is_none() {
            set("SERVANT_PROCESS__DRAIN_SECS", DRAIN_SECS);
        }
        if self.arguments.queue == Queue::Postgres {
            return Ok(());
        }
        let url = match &self.arguments.sqs_endpoint {
            Some(url) => url.clone(),
            None => {
                let spec = self.spec("fake_sqs", &[], &[]);
                self.servers.start_listening(spec, free_port()).await?
            }
        };
        let is_here = ["127.0.0.1", "localhost", "[::1]"].iter().any(|host| url.contains(&format!("//{host}")));
        for (key, value) in
            [("AWS_ACCESS_KEY_ID", "test"), ("AWS_SECRET_ACCESS_KEY", "test"), ("AWS_REGION", "us-east-1")]
        {
            // A server on this machine is simulated and does not check; others have credentials of their own.
            if is_here && std::env::var_os(key).is_none() {
                environment.push((key.to_owned(), value.to_owned()));
            }
        }
        environment.push(("SERVANT_SQS_ENDPOINT_URL".to_owned(), url));
        Ok(())
    }

    /// On the port of the run before, since the customer's connection names it.
    async fn start_salesforce(&mut self) -> anyhow::Result<String> {
        let file = self.home.state().join("salesforce.address");
        let kept = std::fs::read_to_string(&file).ok().and_then(|text| text.trim().parse().ok());
        let records = self.arguments.records.to_string();
        let mut spec = self.spec("fake_salesforce", &[], &[]);
        spec.arguments = match &self.arguments.org_data {
            Some(directory) => vec!["--org-data".into(), directory.clone().into()],
            None => vec!["--records".into(), records.into()],
        };
        spec.arguments.extend(customer::SIMULATION.map(OsString::from));
        spec.arguments.extend(["--mutations-per-s".into(), self.arguments.mutations_per_s().to_string().into()]);
        let url = self.servers.start_listening(spec, kept.unwrap_or_else(free_port)).await.with_context(
            || "the simulated Salesforce does not start; if its address is taken, `cargo up -- --fresh` takes another",
        )?;
        std::fs::write(&file, url.trim_start_matches("http://").trim_end_matches('/'))?;
        Ok(url)
    }

    async fn start_manager(
        &mut self,
        environment: &[(String, String)],
        salesforce: Option<&str>,
    ) -> anyhow::Result<String> {
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, self.arguments.port));
        let mut spec = self.daemon("manager", "manager.toml", environment);
        spec.environment.push(("SERVANT_MANAGER__LISTEN".to_owned(), address.to_string()));
        spec.environment.extend(salesforce.into_iter().flat_map(customer::connect_settings));
        self.manager.start(spec)?;
        let url = format!("http://{address}");
        let ready = format!("{url}/readyz");
        let is_ready = async {
            loop {
                if reqwest::get(&ready).await.is_ok_and(|answer| answer.status().is_success()) {
                    break;
                }
                tokio::time::sleep(LOOK_EVERY).await;
            }
        };
        tokio::time::timeout(READY_MAX, is_ready).await.with_context(|| {
            format!(
                "the manager is not ready after {} s; its log in {} says why",
                READY_MAX.as_secs(),
                self.home.logs().display()
            )
        })?;
        Ok(url)
    }

    fn start_workers(
        &mut self,
        environment: &[(String, String)],
        credentials: &[(String, SecretString)],
    ) -> anyhow::Result<()> {
        // Configuration is strict: what only some programs know goes only to them.
        let shared = [
            ("SERVANT_PROCESS__HEALTH_LISTEN".to_owned(), free_port().to_string()),
            ("SERVANT_QUEUE__BACKEND".to_owned(), self.arguments.queue.as_str().to_owned()),
        ];
        let mut scheduler = self.daemon("scheduler", "scheduler.toml", environment);
        scheduler.environment.extend(shared.clone());
        self.workers.start(scheduler)?;
        for (kind, credential) in credentials {
            let mut servant = self.daemon(kind, "servant.toml", environment);
            let credential = credential.expose_secret().to_owned();
            servant.environment.push(("SERVANT_MANAGER_TOKEN".to_owned(), credential));
            let manager = format!("http://127.0.0.1:{}", self.arguments.port);
            servant.environment.extend(shared.clone());
            servant.environment.push(("SERVANT_MANAGER__URL".to_owned(), manager));
            self.workers.start(servant)?;
        }
        Ok(())
    }

    fn daemon(&self, name: &str, config: &str, environment: &[(String, String)]) -> Spec {
        let mut spec = self.spec(name, &["--config"], environment);
        spec.arguments.push(self.home.config(config).into());
        spec
    }

    fn spec(&self, name: &str, arguments: &[&str], environment: &[(String, String)]) -> Spec {
        Spec {
            name: name.to_owned(),
            program: self.programs.path(name),
            arguments: arguments.iter().map(OsString::from).collect(),
            environment: environment.to_vec(),
            directory: self.home.work.clone(),
            logs: self.home.logs(),
        }
    }
}

fn free_port() -> SocketAddr {
    SocketAddr::from((Ipv4Addr::LOCALHOST, 0))
}
