//! Owns what a customer does in a browser to connect Salesforce: follow the manager's address, allow access, come back.
//! Does not own either end: they are the manager's pages and the simulated Salesforce's.

use anyhow::{Context, bail, ensure};
use domain::{AccountId, ConnectionId};
use reqwest::{Client, Response, StatusCode, Url, header, redirect};
use vault::{ExposeSecret as _, SecretString};

/// Characters of a foreign answer that go into an error.
const SHOWN_CHARS_MAX: usize = 400;

/// Connects the account's Salesforce as `connection`: state, PKCE and cookie go the way that they go in production.
pub(crate) async fn connect(
    (manager, token): (&str, &SecretString),
    account: AccountId,
    connection: ConnectionId,
) -> anyhow::Result<()> {
    // A browser follows by itself; here each step is looked at.
    let browser = Client::builder().redirect(redirect::Policy::none()).build()?;
    let start = format!("{manager}/connect/salesforce?account={account}&connection={connection}");
    let begun = browser.get(&start).bearer_auth(token.expose_secret()).send().await;
    let begun = begun.context("the manager's address for connecting Salesforce")?;
    let cookie = begun.headers().get(header::SET_COOKIE).and_then(|value| value.to_str().ok());
    let cookie = cookie.and_then(|text| text.split(';').next()).unwrap_or_default().to_owned();
    let consent = whereto(begun, "the manager").await?;

    let page = browser.get(consent.clone()).send().await.context("the consent page")?;
    ensure!(page.status() == StatusCode::OK, "the consent page answers {}", said(page).await);
    // The page's form holds what its address holds, and goes to the same place.
    let mut form: Vec<(String, String)> = consent.query_pairs().into_owned().collect();
    form.push(("decision".to_owned(), "allow".to_owned()));
    let mut target = consent;
    target.set_query(None);
    let allowed = browser.post(target).form(&form).send().await.context("the consent")?;
    let back = whereto(allowed, "Salesforce").await?;

    let done = browser.get(back).header(header::COOKIE, cookie).send().await.context("the way back to the manager")?;
    ensure!(done.status() == StatusCode::OK, "the manager did not take the consent: {}", said(done).await);
    Ok(())
}

/// Where an answer sends the browser.
async fn whereto(answer: Response, who: &str) -> anyhow::Result<Url> {
    let location = answer.headers().get(header::LOCATION).and_then(|value| value.to_str().ok()).map(str::to_owned);
    match location {
        Some(location) if answer.status().is_redirection() => {
            location.parse().with_context(|| format!("{who}'s redirect"))
        }
        _ => bail!("{who} does not go on with connecting Salesforce: {}", said(answer).await),
    }
}

async fn said(answer: Response) -> String {
    let status = answer.status();
    let text = answer.text().await.unwrap_or_default();
    format!("{status}: {}", text.chars().take(SHOWN_CHARS_MAX).collect::<String>())
}
