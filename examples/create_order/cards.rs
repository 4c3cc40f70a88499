//! The card company, which is no part of the example but has to be there: it answers what accounting asks, remembers what it
//! answered, and can be told to refuse cards or to say nothing. Never sends a message.

use std::{
    collections::HashMap,
    convert::Infallible,
    future::pending,
    net::SocketAddr,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use axum::{
    Router,
    body::Bytes,
    extract::State,
    http::{HeaderMap, StatusCode},
    routing::{get, post},
};
use serde::{Deserialize, Serialize};
use serde_json::json;
use tokio::net::TcpListener;

use crate::Failure;

/// How it answers: `PUT /mood`.
#[derive(Clone, Copy, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
struct Mood {
    /// No card is good.
    refuses: bool,
    /// It takes every question, and answers none.
    is_silent: bool,
}

#[derive(Default)]
struct Company {
    mood: Mood,
    /// What it answered, by the key of the question.
    answers: HashMap<String, bool>,
    /// How often it was asked.
    asked: u64,
}

type Shared = Arc<Mutex<Company>>;

/// Serves for ever.
pub(crate) async fn serve(listen: SocketAddr) -> Result<Infallible, Failure> {
    let routes = Router::new()
        .route("/authorizations", post(authorize))
        .route("/mood", get(told).put(tell))
        .with_state(Shared::default());
    let listener = TcpListener::bind(listen).await?;
    axum::serve(listener, routes).await?;
    Err("the listener has ended".into())
}

async fn authorize(State(company): State<Shared>, headers: HeaderMap) -> (StatusCode, String) {
    let key = headers
        .get("idempotency-key")
        .and_then(|it| it.to_str().ok());
    let Some(key) = key else {
        return (StatusCode::BAD_REQUEST, "no key".into());
    };
    let answer = locked(&company).answer(key);
    match answer {
        Some(authorized) => {
            let answer = json!({ "authorized": authorized });
            (StatusCode::OK, answer.to_string())
        }
        None => pending().await,
    }
}

impl Company {
    /// Its answer to the question with this key, if it gives one: the same as before, whatever has changed since.
    fn answer(&mut self, key: &str) -> Option<bool> {
        self.asked += 1;
        let good = !self.mood.refuses;
        let answers = !self.mood.is_silent;
        answers.then(|| *self.answers.entry(key.to_owned()).or_insert(good))
    }
}

async fn tell(State(company): State<Shared>, body: Bytes) -> StatusCode {
    match serde_json::from_slice(&body) {
        Ok(mood) => {
            locked(&company).mood = mood;
            StatusCode::NO_CONTENT
        }
        Err(_) => StatusCode::BAD_REQUEST,
    }
}

async fn told(State(company): State<Shared>) -> String {
    let company = locked(&company);
    json!({ "mood": company.mood, "asked": company.asked }).to_string()
}

fn locked(company: &Shared) -> MutexGuard<'_, Company> {
    company.lock().unwrap_or_else(PoisonError::into_inner)
}
