//! The tools as a user meets them: processes, exit codes, messages and files.

mod compare;
mod determinism;
mod end_to_end;
mod hostile_programs;
mod hostile_weights;
mod kernel;
mod pack;
mod permute;
mod programs;
mod quantize;
mod rounded_activations;
mod run;
mod sparse;
mod tool;
