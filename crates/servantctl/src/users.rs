//! `users` and `whoami`. The first admin is made in the ledger directly: whoever has that needs to be asked nothing.

use crate::{actor, output, refusal::Refusal};
use chrono::TimeDelta;
use clap::{Args, Subcommand};
use domain::Role;
use manager_api::{ChangePassword, CreateUser, ManagerClient, OneTimeCode, RoleRequest, User, UserAct, UserQuery};
use std::io::{self, BufRead as _, IsTerminal as _};
use store::{NewCode, Store};
use vault::{ExposeSecret as _, TokenFor, digest, new_token};

#[derive(Debug, Subcommand)]
pub(crate) enum Verb {
    /// Prints an address at which the first admin chooses a name and a password. Works on the ledger directly.
    Bootstrap(Bootstrap),
    /// Lists people.
    List,
    /// Adds a person, and prints the address of the first sign-in.
    Create {
        /// What people read, and what the person signs in with.
        name: String,
        /// viewer, support, operator or admin.
        #[arg(long, default_value = "viewer")]
        role: Role,
        /// The address for mail.
        #[arg(long, default_value = "")]
        email: String,
    },
    /// Gives a person another role; every session ends.
    Role {
        /// The person.
        id: i64,
        /// viewer, support, operator or admin.
        role: Role,
    },
    /// Prints an address at which a person sets a password, also another one.
    Code {
        /// The person.
        id: i64,
    },
    /// Changes a person's own password: signs in by the name and the old one, which it asks for, and out again. Without a
    /// terminal it reads the old and the new one from standard input, a line each.
    Password {
        /// Whose: what the person signs in with.
        name: String,
    },
    /// Shuts a person out; every session ends at once.
    Disable {
        /// The person.
        id: i64,
    },
    /// Lets a person in again.
    Enable {
        /// The person.
        id: i64,
    },
    /// Ends every session of a person.
    SignOut {
        /// The person.
        id: i64,
    },
}

/// How the first admin is made.
#[derive(Debug, Args)]
pub(crate) struct Bootstrap {
    /// Also where there is an admin already, as when nobody can sign in any more.
    #[arg(long)]
    again: bool,
    /// Minutes that the address is good.
    #[arg(long, default_value_t = 60)]
    minutes: u32,
}

pub(crate) async fn bootstrap(store: &Store, bootstrap: &Bootstrap, manager: &str, json: bool) -> anyhow::Result<()> {
    if !bootstrap.again && store.has_admin().await.map_err(Refusal::from)? {
        let way_out = "an admin adds others: `servantctl users create`; if nobody can sign in: --again";
        return Err(Refusal::new("there is an admin already", way_out).into());
    }
    let secret = new_token(TokenFor::Code);
    let expires_at = store.now() + TimeDelta::minutes(i64::from(bootstrap.minutes));
    let digest = digest(&secret);
    let code = NewCode { digest: &digest, user: None, role: Role::Admin, sets_password: true, expires_at };
    store.create_code(code, &actor::granted()?).await.map_err(Refusal::from)?;
    let url = format!("{}/login/code?code={}", manager.trim_end_matches('/'), secret.expose_secret());
    if json {
        return output::print(&serde_json::json!({ "url": url, "expires_at": expires_at }).to_string());
    }
    let until = output::time(Some(expires_at));
    output::print(&format!("open this once, until {until}, and choose a name and a password:\n  {url}"))
}

pub(crate) async fn run(client: &ManagerClient, verb: &Verb, json: bool) -> anyhow::Result<()> {
    let changed = |user: User, what: &str| output::done(json, &format!("{} {what}", user.name));
    let act = async |id: i64, act: UserAct| client.change_user(id, act).await.map_err(Refusal::from);
    match verb {
        Verb::Bootstrap(_) => Err(Refusal::usage("bootstrap works on the ledger", None).into()),
        Verb::List => list(client, json).await,
        Verb::Create { name, role, email } => {
            let user = CreateUser { name: name.clone(), role: role.to_string(), email: email.clone() };
            let code = client.create_user(&user).await.map_err(Refusal::from)?;
            print_code(client, &code, json)
        }
        Verb::Role { id, role } => {
            let request = RoleRequest { role: role.to_string() };
            let user = client.set_role(*id, &request).await.map_err(Refusal::from)?;
            changed(user, &format!("is {role} now, and signs in again"))
        }
        Verb::Password { name } => change_password(client, name, json).await,
        Verb::Code { id } => print_code(client, &client.create_code(*id).await.map_err(Refusal::from)?, json),
        Verb::Disable { id } => changed(act(*id, UserAct::Disable).await?, "is out"),
        Verb::Enable { id } => changed(act(*id, UserAct::Enable).await?, "may sign in again"),
        Verb::SignOut { id } => changed(act(*id, UserAct::SignOut).await?, "is signed out everywhere"),
    }
}

/// Nobody is known by a password but a person, so the program's own token is not shown here.
async fn change_password(client: &ManagerClient, name: &str, json: bool) -> anyhow::Result<()> {
    let (old, new) = passwords()?;
    let nobody = ManagerClient::new(client.url()).map_err(Refusal::from)?;
    let person = nobody.sign_in(name, &old.clone().into()).await.map_err(Refusal::from)?;
    let changed = person.change_password(&ChangePassword { old_password: old, new_password: new }).await;
    // Also when nothing was changed, no session is left behind; that one ends by itself where it cannot be ended.
    let left = person.sign_out().await;
    let ended = changed.map_err(Refusal::from)?.sessions_ended;
    left.map_err(Refusal::from)?;
    output::done(json, &format!("the password of {name} is changed; other sessions that ended: {ended}"))
}

/// Asks for what it is called.
type Ask = dyn FnMut(&str) -> io::Result<String>;

/// The old one and the new one.
fn passwords() -> anyhow::Result<(String, String)> {
    let mut ask: Box<Ask> = if io::stdin().is_terminal() {
        Box::new(|what| rpassword::prompt_password(format!("{what}: ")))
    } else {
        Box::new(|_| {
            let mut line = String::new();
            io::stdin().lock().read_line(&mut line)?;
            Ok(line.trim_end_matches(['\r', '\n']).to_owned())
        })
    };
    let (old, new) = (ask("the password until now")?, ask("the new one")?);
    if old.is_empty() || new.is_empty() {
        let way_out = "at a terminal it asks for both; else: the old and the new one on standard input, a line each";
        return Err(Refusal::usage("two passwords are needed", Some(way_out)).into());
    }
    Ok((old, new))
}

async fn list(client: &ManagerClient, json: bool) -> anyhow::Result<()> {
    let mut users: Vec<User> = Vec::new();
    let mut query = UserQuery::default();
    loop {
        let page = client.users(&query).await.map_err(Refusal::from)?;
        users.extend(page.users);
        match page.next_after {
            Some(after) => query.after = Some(after),
            None => break,
        }
    }
    let rows = users.iter().map(|user| {
        let by = user.issuer.clone().unwrap_or_else(|| if user.has_password { "password" } else { "code" }.to_owned());
        let state = if user.disabled_at.is_some() { "out" } else { "in" };
        let last = output::time(user.signed_in_at);
        vec![user.id.to_string(), user.name.clone(), user.role.clone(), by, state.to_owned(), last]
    });
    output::table(json, &users, &["ID", "NAME", "ROLE", "SIGNS IN BY", "STATE", "LAST"], rows.collect())
}

fn print_code(client: &ManagerClient, code: &OneTimeCode, json: bool) -> anyhow::Result<()> {
    let url = format!("{}{}", client.url(), code.path);
    if json {
        let value = serde_json::json!({ "user_id": code.user_id, "url": url, "expires_at": code.expires_at });
        return output::print(&value.to_string());
    }
    let until = output::time(Some(code.expires_at));
    output::print(&format!("user {} opens this once, until {until}, and sets a password:\n  {url}", code.user_id))
}

pub(crate) async fn whoami(client: &ManagerClient, json: bool) -> anyhow::Result<()> {
    let me = client.me().await.map_err(Refusal::from)?;
    let row = vec![me.kind.clone(), me.id.clone(), me.name.clone(), me.role.clone()];
    output::table(json, &me, &["KIND", "ID", "NAME", "ROLE"], vec![row])
}
