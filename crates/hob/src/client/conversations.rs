//! The caller's conversations in the daemon.

use bytes::Bytes;
use hob_api::conversation::{
    Conversation, ConversationDeleted, ConversationFields, ConversationList, Transcript,
};
use hyper::Method;

use super::{Client, ClientError, REPLY_TIMEOUT};

const PATH: &str = "/hob/v1/conversations";

impl Client {
    /// All of them, the one last added to first.
    pub(crate) async fn conversations(&self) -> Result<Vec<Conversation>, ClientError> {
        let list: ConversationList = self
            .call(Method::GET, PATH, Bytes::new(), REPLY_TIMEOUT)
            .await?;
        Ok(list.data)
    }

    /// Opens one.
    pub(crate) async fn open_conversation(
        &self,
        fields: &ConversationFields,
    ) -> Result<Conversation, ClientError> {
        let body = self.encode(fields)?;
        self.call(Method::POST, PATH, body, REPLY_TIMEOUT).await
    }

    /// One with all that was said in it.
    pub(crate) async fn transcript(&self, id: &str) -> Result<Transcript, ClientError> {
        let path = format!("{PATH}/{id}");
        self.call(Method::GET, &path, Bytes::new(), REPLY_TIMEOUT)
            .await
    }

    /// One as Markdown.
    pub(crate) async fn conversation_markdown(&self, id: &str) -> Result<String, ClientError> {
        let path = format!("{PATH}/{id}/export?format=markdown");
        let bytes = self
            .reply(Method::GET, &path, Bytes::new(), REPLY_TIMEOUT)
            .await?;
        String::from_utf8(bytes.into()).map_err(|error| self.protocol(error.to_string()))
    }

    /// Changes the name or the instructions of one.
    pub(crate) async fn change_conversation(
        &self,
        id: &str,
        fields: &ConversationFields,
    ) -> Result<Conversation, ClientError> {
        let body = self.encode(fields)?;
        let path = format!("{PATH}/{id}");
        self.call(Method::PATCH, &path, body, REPLY_TIMEOUT).await
    }

    /// Deletes one.
    pub(crate) async fn delete_conversation(&self, id: &str) -> Result<(), ClientError> {
        let path = format!("{PATH}/{id}");
        let deleted = self.call(Method::DELETE, &path, Bytes::new(), REPLY_TIMEOUT);
        deleted.await.map(|_: ConversationDeleted| ())
    }
}
