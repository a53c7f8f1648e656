//! Live tests: they read the mails that the application wrote, and turn back its clock, in the tables.

use std::net::TcpListener;

use actix_shareddb::{LiveServer, LiveServerTestCase, Pool, Result, Schema, live_server};
use actix_web::cookie::Cookie;
use actix_web::dev::Server;

#[derive(Default)]
struct Login;

impl LiveServerTestCase for Login {
    fn schema() -> Schema {
        Schema::dir("examples/login")
    }

    async fn serve(&self, listener: TcpListener, pool: Pool) -> Result<Server> {
        Ok(super::run(listener, pool)?)
    }

    async fn set_up(&mut self, live: &LiveServer) -> Result<()> {
        let insert =
            "INSERT INTO accounts (email) VALUES ('alice@example.com'), ('bob@example.com')";
        live.pool().get().await?.execute(insert, &[]).await?;
        Ok(())
    }
}

/// Asks for a mail, and takes the link out of it.
async fn link(live: &LiveServer, email: &str) -> Result<String> {
    let asked = live.post("/login").send_form(&[("email", email)]).await?;
    assert_eq!(asked.status(), 202);
    let client = live.pool().get().await?;
    let select = "SELECT body FROM mails WHERE recipient = $1 ORDER BY id DESC LIMIT 1";
    Ok(client.query_one(select, &[&email]).await?.get("body"))
}

/// A user who follows that link, and keeps the cookie of the session.
async fn log_in(live: &LiveServer, email: &str) -> Result<LiveServer> {
    let user = live.with_cookies();
    let link = link(&user, email).await?;
    let mut page = user.with_redirects().get(&link).send().await?;
    assert_eq!(page.status(), 200);
    assert_eq!(page.body().await?, email);
    Ok(user)
}

/// What `/me` answers to a user: a status and a body.
async fn me(user: &LiveServer) -> Result<(u16, String)> {
    let mut response = user.get("/me").send().await?;
    let body = response.body().await?;
    let body = String::from_utf8_lossy(&body).into_owned();
    Ok((response.status().as_u16(), body))
}

live_server! {
    impl Login {
        async fn the_link_in_the_mail_logs_in(&mut self, live: &LiveServer) -> Result<()> {
            let alice = log_in(live, "alice@example.com").await?;
            let bob = log_in(live, "bob@example.com").await?;
            assert_eq!(me(&alice).await?, (200, "alice@example.com".to_owned()));
            assert_eq!(me(&bob).await?, (200, "bob@example.com".to_owned()));
            Ok(())
        }

        async fn nobody_gets_in_without_a_session(&mut self, live: &LiveServer) -> Result<()> {
            assert_eq!(live.get("/me").send().await?.status(), 401);
            let forged = Cookie::new("session", "8c2cbd30-8b02-4c5b-a7e2-2b6a44fb2d11");
            assert_eq!(live.get("/me").cookie(forged).send().await?.status(), 401);
            assert_eq!(live.get("/login/guessed").send().await?.status(), 401);
            Ok(())
        }

        async fn a_link_works_once(&mut self, live: &LiveServer) -> Result<()> {
            let link = link(live, "alice@example.com").await?;
            assert_eq!(live.get(&link).send().await?.status(), 303);
            assert_eq!(live.get(&link).send().await?.status(), 401);
            Ok(())
        }

        async fn a_link_and_a_session_grow_too_old(&mut self, live: &LiveServer) -> Result<()> {
            let link = link(live, "alice@example.com").await?;
            let bob = log_in(live, "bob@example.com").await?;
            let client = live.pool().get().await?;
            client.execute("UPDATE codes SET made_at = made_at - interval '15 minutes'", &[]).await?;
            client.execute("UPDATE sessions SET made_at = made_at - interval '14 days'", &[]).await?;

            assert_eq!(live.get(&link).send().await?.status(), 401);
            assert_eq!(me(&bob).await?.0, 401);
            Ok(())
        }

        async fn a_logout_ends_its_own_session(&mut self, live: &LiveServer) -> Result<()> {
            let here = log_in(live, "alice@example.com").await?;
            let elsewhere = log_in(live, "alice@example.com").await?;
            assert_eq!(here.post("/logout").send().await?.status(), 204);
            assert_eq!(me(&here).await?.0, 401);
            assert_eq!(me(&elsewhere).await?.0, 200);
            // It isn't the cookie alone that has gone.
            let sessions = live.pool().get().await?.query("SELECT FROM sessions", &[]).await?;
            assert_eq!(sessions.len(), 1);
            Ok(())
        }

        async fn strangers_get_the_same_answer_and_no_mail(&mut self, live: &LiveServer) -> Result<()> {
            let asked = live.post("/login").send_form(&[("email", "mallory@example.com")]).await?;
            assert_eq!(asked.status(), 202);
            let mails = live.pool().get().await?.query("SELECT FROM mails", &[]).await?;
            assert!(mails.is_empty());
            Ok(())
        }

        async fn scripts_and_other_sites_never_see_the_cookie(&mut self, live: &LiveServer) -> Result<()> {
            let link = link(live, "alice@example.com").await?;
            let entered = live.get(&link).send().await?;
            assert_eq!(entered.status(), 303);
            let cookie = entered.cookie("session").unwrap();
            assert_eq!(cookie.http_only(), Some(true));
            assert_eq!(cookie.secure(), Some(true));
            assert_eq!(cookie.same_site().unwrap().to_string(), "Lax");
            Ok(())
        }
    }
}
