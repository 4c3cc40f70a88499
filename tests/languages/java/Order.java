import jakarta.persistence.*;

/** The aggregate. */
@Entity
@Table(name = "orders")
public class Order {
    @Id private String id;
    private String state;

    public void setState(String state) {
        this.state = state;
    }
}
