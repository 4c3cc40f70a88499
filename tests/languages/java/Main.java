import jakarta.persistence.*;
import java.time.Instant;
import java.util.Map;
import java.util.UUID;
import java.util.function.Consumer;
import org.hibernate.jpa.HibernatePersistenceConfiguration;
import org.postgresql.util.PSQLException;

/** Runs what docs/from-your-language.md shows, and then falls into each of its traps. */
public class Main {
    /** Maps a column that has a default. */
    @Entity
    @Table(schema = "outbox", name = "event")
    public static class WithTime {
        @Id @Column(name = "event_id") UUID id = UUID.randomUUID();
        String topic = "orders";
        @Column(name = "event_type") String type = "Trap";
        @Column(name = "created_at") Instant createdAt;
    }

    /** Lets the database make the id. */
    @Entity
    @Table(schema = "outbox", name = "event")
    public static class WithIdentity {
        @Id
        @GeneratedValue(strategy = GenerationType.IDENTITY)
        Long id;
        String topic = "orders";
        @Column(name = "event_type") String type = "Trap";
    }

    public static void main(String[] arguments) throws Exception {
        String url = System.getenv("DATABASE").replaceFirst("postgres://(.*)@(.*)", "jdbc:postgresql://$2?user=$1");
        EntityManagerFactory factory = new HibernatePersistenceConfiguration("orders")
            .managedClasses(Order.class, OutboxEvent.class, WithTime.class, WithIdentity.class)
            .property(PersistenceConfiguration.JDBC_URL, url)
            .createEntityManagerFactory();

        UUID[] id = new UUID[1];
        factory.runInTransaction(em -> {
            try {
                id[0] = new Orders().approve(em, "o-42", 1250);
            } catch (Exception failure) {
                throw new RuntimeException(failure);
            }
        });
        System.out.println("event " + id[0]);

        trap(factory, "merge", em -> em.merge(new OutboxEvent("orders", "o-1", "Trap", "{}", null)));
        trap(factory, "created-at", em -> em.persist(new WithTime()));
        trap(factory, "identity", em -> em.persist(new WithIdentity()));
        trap(factory, "empty", em -> em.persist(new OutboxEvent("orders", "", "Trap", "{}", null)));
        // No failure, but the wrong order: the test looks at the times.
        factory.runInTransaction(em -> {
            em.find(Order.class, "o-43").setState("APPROVED");
            em.persist(new OutboxEvent("orders", "o-43", "Unflushed", "{}", Map.of()));
        });
    }

    private static void trap(EntityManagerFactory factory, String name, Consumer<EntityManager> work) {
        try {
            factory.runInTransaction(work);
            System.out.println("trap " + name + " none");
        } catch (RuntimeException failure) {
            Throwable cause = failure;
            while (!(cause instanceof PSQLException)) {
                cause = cause.getCause();
            }
            PSQLException refused = (PSQLException) cause;
            String constraint = refused.getServerErrorMessage().getConstraint();
            System.out.println("trap " + name + " " + refused.getSQLState() + " " + constraint);
        }
    }
}
