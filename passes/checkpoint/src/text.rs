//! Text to tokens.

use crate::config::Config;
use crate::error::{CheckpointError, Result};
use crate::rows::Batch;
use std::path::Path;
use tokenizers::{Tokenizer, TruncationParams};

/// The tokenizer of a model folder.
#[derive(Clone, Debug)]
pub struct Text {
    tokenizer: Tokenizer,
    longest: Option<usize>,
}

impl Text {
    /// Reads `tokenizer.json`, and `sentence_bert_config.json` where there is one.
    ///
    /// # Errors
    /// The file is missing or wrong.
    pub fn open(folder: &Path) -> Result<Self> {
        let path = folder.join("tokenizer.json");
        if !path.is_file() {
            return Err(CheckpointError::File { path, what: "is missing; a model folder needs its tokenizer to read text".into() });
        }
        let mut tokenizer =
            Tokenizer::from_file(&path).map_err(|e| CheckpointError::File { path: path.clone(), what: format!("not a tokenizer: {e}") })?;
        tokenizer.with_padding(None);
        tokenizer.with_truncation(None).map_err(|e| CheckpointError::File { path, what: e.to_string() })?;
        let settings = folder.join("sentence_bert_config.json");
        let longest = match settings.is_file() {
            true => Config::read(&settings)?.size_or("max_seq_length", None)?,
            false => None,
        };
        Ok(Text { tokenizer, longest })
    }

    /// Tokens that the folder's settings allow a sentence, if they say.
    pub fn longest(&self) -> Option<usize> {
        self.longest
    }

    /// All tokens of a text, without special tokens.
    ///
    /// # Errors
    /// The tokenizer refuses the text.
    pub fn tokens(&self, text: &str) -> Result<Vec<u32>> {
        let encoding =
            self.tokenizer.encode(text, false).map_err(|e| CheckpointError::Text(format!("the text cannot be tokenized: {e}")))?;
        Ok(encoding.get_ids().to_vec())
    }

    /// One sequence a non-empty line, with special tokens, cut at `longest` tokens.
    ///
    /// # Errors
    /// The tokenizer refuses a line, or there is none.
    pub fn sentences(&self, text: &str, longest: usize) -> Result<Batch> {
        let wrong = |e: tokenizers::Error| CheckpointError::Text(format!("the text cannot be tokenized: {e}"));
        let mut tokenizer = self.tokenizer.clone();
        tokenizer.with_truncation(Some(TruncationParams { max_length: longest, ..TruncationParams::default() })).map_err(wrong)?;
        let lines: Vec<&str> = text.lines().filter(|l| !l.trim().is_empty()).collect();
        if lines.is_empty() {
            return Err(CheckpointError::Text("the text has no sentence; give one sentence a line".into()));
        }
        let encodings = tokenizer.encode_batch(lines, true).map_err(wrong)?;
        Ok(Batch::new(encodings.iter().map(|e| e.get_ids())))
    }

    /// Sequences of `context` tokens that tile the text, without special tokens; the rest is left over.
    ///
    /// # Errors
    /// The text is shorter than one sequence.
    pub fn tiles(&self, text: &str, context: usize) -> Result<Batch> {
        let tokens = self.tokens(text)?;
        if tokens.len() < context || context == 0 {
            let what =
                format!("the text has {} tokens, too few for one sequence of {context}; give more text or a shorter context", tokens.len());
            return Err(CheckpointError::Text(what));
        }
        Ok(Batch::new(tokens.chunks_exact(context)))
    }
}
