//! Where values are: in a slot, or computed again in every kernel that reads them.

use super::{Backend, Home, Kernel, Node, Scheduler, Scope, Slot, SlotInfo, bytes_of, static_tensor};
use crate::error::{CodegenError, Result};
use icd_core::{
    Literal,
    graph::{Func, Op, ValueId},
};

/// Where a value is.
#[derive(Clone, Debug)]
pub enum Entry<'a> {
    /// In a slot.
    Slot(Slot),
    /// Nowhere: readers compute it from this operation.
    Inline(&'a Op),
    /// A tuple of values.
    Tuple(Vec<Entry<'a>>),
    /// An ordering token, which the order of steps already stands for.
    Token,
}

/// Constants that kernels contain instead of reading them from memory: splats, and at most 64 bytes.
pub fn small_constant(literal: &Literal) -> bool {
    literal.as_splat().is_some() || literal.stored_bytes().len() <= 64
}

impl<'a, B: Backend> Scheduler<'a, B> {
    pub(super) fn entry(&self, op: &Op, n: usize, scope: &Scope<'a>) -> Result<Entry<'a>> {
        let value = op.operands.get(n).ok_or_else(|| CodegenError::invalid(op, format!("operand {n} is missing")))?;
        scope.get(value).cloned().ok_or_else(|| CodegenError::invalid(op, format!("operand %{} is used before it is defined", value.0)))
    }

    pub(super) fn weight(&mut self, literal: &Literal) -> Result<Entry<'a>> {
        let mut name = match literal.name() {
            Some(name) => name.to_string(),
            None => format!("const.{}", &literal.content_hash().to_hex().as_str()[..24]),
        };
        if self.weights.get(&name).is_some_and(|known| known != literal) {
            name = format!("{name}.{}", &literal.content_hash().to_hex().as_str()[..24]);
        }
        let bytes = bytes_of(literal.ty())?;
        let home = Home::Weight(name.clone());
        if let Some(slot) = self.slots.iter().position(|s| s.home == home) {
            return Ok(Entry::Slot(slot));
        }
        self.weights.insert(name, literal.clone());
        self.slots.push(SlotInfo { bytes, home });
        Ok(Entry::Slot(self.slots.len() - 1))
    }

    /// Makes `value` available to `kernel`: as an argument, or computed inside.
    pub(super) fn collect(&mut self, value: ValueId, scope: &Scope<'a>, kernel: &mut Kernel<'a>) -> Result<()> {
        match scope.get(&value) {
            Some(Entry::Slot(slot)) => {
                if kernel.args.iter().all(|(v, _)| *v != value) {
                    kernel.args.push((value, *slot));
                }
                Ok(())
            }
            Some(&Entry::Inline(op)) => {
                if kernel.inlined.iter().any(|known| std::ptr::eq(*known, op)) {
                    return Ok(());
                }
                kernel.inlined.push(op);
                op.operands.iter().try_for_each(|&operand| self.collect(operand, scope, kernel))
            }
            Some(Entry::Token) => Ok(()),
            Some(Entry::Tuple(_)) => Err(CodegenError::unsupported(kernel.op, "it takes a tuple", "unpack the tuple before")),
            None => Err(CodegenError::invalid(kernel.op, format!("operand %{} is used before it is defined", value.0))),
        }
    }

    /// The slot of a value; writes the kernel that fills it when the value is only computed inside others so far.
    pub(super) fn materialize(&mut self, func: &'a Func, value: ValueId, scope: &mut Scope<'a>, nodes: &mut Vec<Node<'a>>) -> Result<Slot> {
        match scope.get(&value) {
            Some(Entry::Slot(slot)) => Ok(*slot),
            Some(&Entry::Inline(op)) => {
                let bytes = bytes_of(static_tensor(func, value, "the value")?)?;
                let slot = self.slot(bytes, Home::Arena);
                let mut kernel = Kernel { results: vec![slot], ..Kernel::new(func, op) };
                for &operand in &op.operands {
                    self.collect(operand, scope, &mut kernel)?;
                }
                if bytes > 0 {
                    nodes.push(Node::Kernel(Box::new(kernel)));
                }
                scope.insert(value, Entry::Slot(slot));
                Ok(slot)
            }
            _ => Err(CodegenError::Mismatch { why: format!("%{} of @{} is not a tensor in memory", value.0, func.name) }),
        }
    }

    /// The entry of a value, brought into slots so that other scopes can use it.
    pub(super) fn materialize_entry(
        &mut self,
        func: &'a Func,
        value: ValueId,
        scope: &mut Scope<'a>,
        nodes: &mut Vec<Node<'a>>,
    ) -> Result<Entry<'a>> {
        match scope.get(&value) {
            Some(Entry::Inline(_)) => self.materialize(func, value, scope, nodes).map(Entry::Slot),
            Some(entry) => Ok(entry.clone()),
            None => Err(CodegenError::Mismatch { why: format!("%{} of @{} is used before it is defined", value.0, func.name) }),
        }
    }
}
