"""The tools of WorkBench (Styles et al. 2024, github.com/olly-styles/WorkBench), declared by hand.

Names and order of arguments are those of ``data import workbench``, so that its
rows fit. What stands there as an identifier is words from the request here
("my first meeting on Monday"): finding the record is work for code. Nothing is
implemented: these tools can be planned with and measured, not run.
"""

from typing import Literal

from mlx_tinyagent import tool
from mlx_tinyagent.tools.base import Email, MaybeWhen, Span, Text, When

Metric = Literal[
    "total_visits",
    "session_duration_seconds",
    "user_engaged",
    "visits_direct",
    "visits_referral",
    "visits_search_engine",
    "visits_social_media",
]


@tool
def analytics__create_plot(
    since: When,
    until: MaybeWhen,
    metric: Metric,
    kind: Literal["bar", "line", "scatter", "histogram"],
) -> None:
    """Plot a figure of the website over time.

    Args:
        since: first day
        until: last day; today if it is empty
        metric: what is plotted
        kind: histogram for a distribution
    """


@tool
def calendar__create_event(event: Span, participant: Email, start: When, duration: Span) -> None:
    """Schedule a meeting with someone.

    Args:
        event: its title
        participant: who it is with
        start: day and time
        duration: how long it takes
    """


@tool(effect="delete")
def calendar__delete_event(event: Span) -> None:
    """Cancel a meeting.

    Args:
        event: which one, in the request's words
    """


@tool
def calendar__update_event(
    event: Span,
    field: Literal["event_name", "participant_email", "event_start", "duration"],
    value: Text,
) -> None:
    """Rename, move or change a meeting.

    Args:
        event: which one, in the request's words
        field: what is changed
        value: what it becomes
    """


@tool
def customer_relationship_manager__add_customer(
    customer: Span,
    assignee: Email,
    status: Literal["Qualified", "Won", "Lost", "Lead", "Proposal"],
) -> None:
    """Add a customer to the CRM.

    Args:
        customer: name of the customer
        assignee: who looks after them
        status: stage of the sale
    """


@tool(effect="delete")
def customer_relationship_manager__delete_customer(customer: Span) -> None:
    """Delete a customer from the CRM.

    Args:
        customer: name of the customer
    """


@tool
def customer_relationship_manager__update_customer(
    customer: Span,
    field: Literal["status", "assigned_to_email", "product_interest", "notes", "follow_up_by"],
    value: Text,
) -> None:
    """Change a customer's status, or who looks after them in the CRM.

    Args:
        customer: name of the customer
        field: what is changed
        value: what it becomes
    """


@tool(effect="delete")
def email__delete_email(email: Span) -> None:
    """Delete an email.

    Args:
        email: which one, in the request's words
    """


@tool(effect="send")
def email__forward_email(email: Span, recipient: Email) -> None:
    """Forward an email to someone.

    Args:
        email: which one, in the request's words
        recipient: who gets it
    """


@tool(effect="send")
def email__reply_email(email: Span, body: Text) -> None:
    """Reply to an email.

    Args:
        email: which one, in the request's words
        body: what to say
    """


@tool(effect="send")
def email__send_email(recipient: Email, subject: Text, body: Text) -> None:
    """Send a new email.

    Args:
        recipient: who gets it
        subject: its title
        body: what to say
    """


@tool
def project_management__create_task(
    task: Span,
    board: Literal["Back end", "Front end", "Design"],
    assignee: Email,
    due: When,
    column: Literal["Backlog", "In Progress", "In Review", "Completed"],
) -> None:
    """Add a task to a project board.

    Args:
        task: its name
        board: which board
        assignee: who does it
        due: last day
        column: where it starts
    """


@tool
def project_management__update_task(
    task: Span,
    field: Literal["assigned_to_email", "list_name", "due_date", "board", "task_name"],
    value: Text,
) -> None:
    """Reassign, move or change a task of a project board.

    Args:
        task: which one, in the request's words
        field: what is changed
        value: what it becomes
    """
