//! Who acts where no manager asks: the operating system's user on this host, as far as that can be learnt without a system
//! call of our own. Whoever has the database's address may do anything with it: this says who did, and proves nothing.

use domain::{Capability, Granted, Origin, Principal, authorize};

/// What the kernel says of this process.
const STATUS: &str = "/proc/self/status";
/// Which user has which number.
const USERS: &str = "/etc/passwd";

/// The leave to do `A` on the ledger itself, as `cli:<user>@<host>`.
pub(crate) fn granted<A: Capability>() -> anyhow::Result<Granted<A>> {
    let read = |file: &str| std::fs::read_to_string(file).unwrap_or_default();
    let named = ["LOGNAME", "USER"].iter().find_map(|key| std::env::var(key).ok());
    let user = user_of(&read(STATUS), &read(USERS), named);
    let agent = concat!("servantctl/", env!("CARGO_PKG_VERSION")).to_owned();
    let principal = Principal::system(&format!("cli:{user}@{}", daemon::host()));
    Ok(authorize(&principal.from_origin(Origin { agent, ..Origin::default() }), "")?)
}

/// The user by the kernel's number, since anybody can set a variable; by what is set where there is no such kernel.
fn user_of(status: &str, users: &str, named: Option<String>) -> String {
    // Real, effective, saved, of the file system.
    let numbers = status.lines().find_map(|line| line.strip_prefix("Uid:"));
    let Some(number) = numbers.and_then(|numbers| numbers.split_whitespace().nth(1)) else {
        return named.filter(|name| !name.is_empty()).unwrap_or_else(|| "unknown".to_owned());
    };
    let known = users.lines().find_map(|line| {
        let mut parts = line.split(':');
        let (name, number_of) = (parts.next()?, parts.nth(1)?);
        (number_of == number).then(|| name.to_owned())
    });
    known.unwrap_or_else(|| format!("uid-{number}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use domain::action;

    #[test]
    fn the_user_is_whom_the_kernel_says() {
        let (status, users) = ("Name:\tx\nUid:\t0\t1000\t0\t0\n", "root:x:0:0::/:\nada:x:1000:1000:Ada:/home/ada:\n");
        let set = || Some("eve".to_owned());
        assert_eq!(user_of(status, users, set()), "ada");
        assert_eq!(user_of("Uid:\t7\t7\t7\t7", users, set()), "uid-7", "who has no name has a number");
        assert_eq!(user_of("", users, set()), "eve");
        assert_eq!(user_of("", users, Some(String::new())), "unknown");
        let by = granted::<action::Migrate>().unwrap();
        assert!(by.by().starts_with("cli:") && by.by().contains('@'), "{}", by.by());
        assert!(by.principal().origin().agent.starts_with("servantctl/"));
    }
}
