//! HTTP calls to the server under test.

use std::net::SocketAddr;

use awc::http::{Method, StatusCode};
use serde_json::Value;

use super::{PATIENCE, confirmed};

pub struct Api {
    pub address: SocketAddr,
    token: Option<String>,
    kept: Option<awc::Client>,
}

/// An answer: status, headers, body.
pub struct Answer {
    pub status: StatusCode,
    pub headers: Vec<(String, String)>,
    pub body: Vec<u8>,
}

impl Answer {
    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|error| panic!("{error}: {}", self.text()))
    }

    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str())
    }
}

impl Api {
    pub fn new(address: SocketAddr) -> Self {
        Self { address, token: None, kept: None }
    }

    pub fn with_token(&self, token: &str) -> Self {
        Self { address: self.address, token: Some(token.into()), kept: None }
    }

    /// Keeps its connections for the next call, for those who make many.
    pub fn kept(self) -> Self {
        Self { kept: Some(client()), ..self }
    }

    pub async fn call(&self, method: Method, path: &str, headers: &[(&str, &str)], body: Option<Value>) -> Answer {
        self.try_call(method, path, headers, body).await.unwrap_or_else(|error| panic!("{path}: {error}"))
    }

    /// An error is a server that went away before it answered whole.
    pub async fn try_call(
        &self,
        method: Method,
        path: &str,
        headers: &[(&str, &str)],
        body: Option<Value>,
    ) -> Result<Answer, String> {
        confirmed::is_stored(self.address).await;
        let client = self.kept.clone().unwrap_or_else(client);
        let mut request = client.request(method, format!("http://{}{path}", self.address));
        if let Some(token) = &self.token {
            request = request.bearer_auth(token);
        }
        for (name, value) in headers {
            request = request.insert_header((*name, *value));
        }
        let sent = match body {
            Some(body) => request.send_json(&body).await,
            None => request.send().await,
        };
        let mut response = sent.map_err(|error| error.to_string())?;
        let headers = response
            .headers()
            .iter()
            .map(|(name, value)| (name.to_string(), String::from_utf8_lossy(value.as_bytes()).into_owned()))
            .collect();
        let body = response.body().limit(64 << 20).await.map_err(|error| error.to_string())?;
        Ok(Answer { status: response.status(), headers, body: body.to_vec() })
    }

    pub async fn get(&self, path: &str) -> Answer {
        self.call(Method::GET, path, &[], None).await
    }

    /// A GET that must be answered 200 with JSON.
    pub async fn json(&self, path: &str) -> Value {
        let answer = self.get(path).await;
        assert_eq!(answer.status, StatusCode::OK, "{path}: {}", answer.text());
        answer.json()
    }

    pub async fn post(&self, path: &str, body: Value) -> Answer {
        self.call(Method::POST, path, &[], Some(body)).await
    }

    pub async fn patch(&self, path: &str, body: Value) -> Answer {
        self.call(Method::PATCH, path, &[], Some(body)).await
    }

    pub async fn delete(&self, path: &str) -> Answer {
        self.call(Method::DELETE, path, &[], None).await
    }

    /// Subjects of a mailbox's messages, newest first.
    pub async fn subjects(&self, mailbox: &str) -> Vec<String> {
        let list = self.json(&format!("/v1/mailboxes/{mailbox}/messages?limit=100")).await;
        let items = list["items"].as_array().expect("items");
        items.iter().map(|item| item["subject"].as_str().expect("a subject").to_owned()).collect()
    }
}

fn client() -> awc::Client {
    awc::Client::builder().timeout(PATIENCE * 2).disable_redirects().finish()
}
